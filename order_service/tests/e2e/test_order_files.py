"""Hazard: an order file from a spreadsheet or an editor is refused without a clear reason, is sent up to its invalid
line, or needs one timeout per thousand orders.
"""

import json
import time

import pytest

from client import request_of
from foreign_data_manager import Behaviour
from processes import run_command
from platform_under_test import ORDER_SERVICE_BIN
from ports import free_port
from waiting import elapsed_since, wait_until

ALL = range(-(2**31), 2**31)
RANGE = "is not a whole number from -2147483648 to 2147483647"


@pytest.fixture
def service(platform):
    platform.foreign_data_manager()
    return platform.order_service()


def written(platform, content) -> str:
    file = platform.home / "orders.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(file)


GOOD = {
    "a byte order mark": "\ufefforder_id,product_id\r\n17,4\r\n-3,9\r\n",
    "quoted": '"order_id","product_id"\r\n"17","4"\r\n"-3",9',
    "blank lines before the header": "\n  \r\norder_id,product_id\n\n17,4\n-3,9\n",
    "columns the other way round": "product_id,order_id\n4,17\n9,-3\n",
    "lines of JSON": '\ufeff{"order_id": 17, "product_id": 4}\r\n\r\n{"product_id": 9, "order_id": -3}',
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_what_spreadsheets_and_programs_write_is_taken(platform, service, content):
    done = service.client_command("process", "--file", written(platform, content), "--output", "json")
    assert done.returncode == 0, done.stderr
    orders = json.loads(done.stdout)["processed_orders"]
    assert [(order["order_id"], order["product_id"]) for order in orders] == [(17, 4), (-3, 9)]


BAD = {
    "the same line, near": ("1,2\n3,4\n3,4\n", 3, "order_id: order 3 is on line 2 already"),
    "the same line, far": ("".join(f"{n},1\n" for n in range(4000)) + "7,1\n", 4001, "order 7 is on line 8 already"),
    "one id with two products": ("1,2\n1,3\n", 2, "order 1 has product 3 here, and 2 on line 1"),
    "a number beyond int32": ("1,2\n3,99999999999\n", 2, f"product_id: `99999999999` {RANGE}"),
    "the same in JSON": ('{"order_id": 99999999999, "product_id": 1}', 1, "order_id: invalid value"),
    "ESC and NUL": ("1,2\n\x1b[2J\x00,3\n", 2, "order_id: `\\u{1b}[2J\\u{0}` is not"),
    "something else": ("order;product\n1;2\n", 1, "`order;product` is neither ORDER,PRODUCT nor a JSON object"),
    "not UTF-8": (b"1,2\n3,\xfc\n", 2, "is not UTF-8"),
}


@pytest.mark.parametrize(("content", "line", "told"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_told_with_its_line_before_anything_is_sent(platform, content, line, told):
    file = written(platform, content)
    # Nobody is there: whoever sent anything would say so.
    server = f"127.0.0.1:{free_port()}"
    done = run_command([ORDER_SERVICE_BIN, "process", "--file", file, "--server", server])
    assert done.returncode == 1 and done.stdout == ""
    assert f"{file}:{line}: " in done.stderr and told in done.stderr, done.stderr
    assert "\x1b" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("content", ["", "\n\n", "order_id,product_id\n"], ids=repr)
def test_a_file_without_orders_is_called_so(platform, content):
    file = written(platform, content)
    done = run_command([ORDER_SERVICE_BIN, "process", "--file", file, "--server", "127.0.0.1:1"])
    assert done.returncode == 1 and done.stderr.strip() == f"error: {file}: there is no order in it"


@pytest.mark.long
def test_orders_that_wait_for_the_data_manager_wait_side_by_side(platform):
    foreign = platform.foreign_data_manager()
    foreign.default = Behaviour.SILENT
    service = platform.order_service()
    file = written(platform, "".join(f"{n},1\n" for n in range(5000)))
    start = time.monotonic()
    done = service.client_command("process", "--file", file, "--timeout", "5s", "--output", "json")
    took = elapsed_since(start)
    assert done.returncode == 1 and len(json.loads(done.stdout)["processed_orders"]) == 5000, done.stderr
    assert "5000 of 5000 orders are not processed" in done.stderr
    assert took < 12, f"{took:.1f} s for five requests of 5 s"


@pytest.mark.long
def test_what_a_small_service_has_no_room_for_is_sent_again(platform):
    platform.foreign_data_manager(batch=True)
    service = platform.order_service("--max-in-flight-orders", "1000")
    file = written(platform, "".join(f"{n},1\n" for n in range(8000)))
    done = service.client_command("process", "--file", file, "--output", "json")
    assert done.returncode == 0, done.stderr
    orders = json.loads(done.stdout)["processed_orders"]
    assert [order["order_id"] for order in orders] == list(range(8000))


@pytest.mark.long
def test_a_service_that_never_has_room_is_not_asked_for_ever(platform):
    foreign = platform.foreign_data_manager()
    foreign.default = Behaviour.SILENT
    service = platform.order_service("--max-in-flight-orders", "1000")
    others = platform.client(service).stub.ProcessOrders.future(request_of((n, 1) for n in range(1000)), timeout=60)
    wait_until(lambda: platform.client(service).knows(0), 5, "others have the room")
    start = time.monotonic()
    done = service.client_command("process", "--order", "5000:1", "--timeout", "3s")
    assert done.returncode == 1 and "ResourceExhausted" in done.stderr, done.stderr
    assert 1 < elapsed_since(start) < 5
    others.cancel()
