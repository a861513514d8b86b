"""Hazard: the database's clock steps, which gives orders up early or delays the takeover of a dead process by an hour.
"""

import grpc
import pytest

from client import FAILED
from foreign_behaviours import Behaviour
from own_postgres import OwnPostgres, SteppedClock
from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from waiting import wait_until

DAY, HOUR = 86_400, 3_600
# A lease must run out and be noticed, on a busy machine.
TAKEN_OVER_WITHIN = 40


@pytest.fixture
def clock(platform):
    return SteppedClock(platform.home / "clock")


@pytest.fixture
def server(platform, clock):
    server = OwnPostgres(platform.home / "own", "control", clock=clock)
    platform.closing(server.stop)
    migrate = [ORDER_SERVICE_BIN, "migrate", "--database-url", server.url("control"), "--initial-shards", "4"]
    done = run_command(migrate, timeout=60)
    assert done.returncode == 0, done.stderr
    return server


def started(platform, server, replica: int):
    return platform.order_service("--database-url", server.url("control"), replica=replica)


@pytest.mark.long
def test_orders_that_wait_are_not_given_up_because_a_clock_ran_ahead(platform, server, clock):
    manager = platform.foreign_data_manager(default=grpc.StatusCode.UNAVAILABLE)
    client = platform.client(started(platform, server, 0))
    ids = range(1, 51)
    assert not any(answer.is_processed for answer in client.process([(n, 1) for n in ids]))
    asked = sum(manager.faults.values())
    clock.set(60 * DAY)
    wait_until(lambda: sum(manager.faults.values()) > asked, 30, "they are tried while the clock is ahead")
    clock.set(0)
    assert [order for order in client.list_all() if order.state == FAILED] == []
    manager.default = Behaviour.BEFORE
    client.wait_all_ended(60)
    assert [order for order in client.list_all() if order.state == FAILED] == []


@pytest.mark.long
def test_a_dead_process_is_replaced_though_the_clock_was_put_back(platform, server, clock):
    manager = platform.foreign_data_manager(default=grpc.StatusCode.UNAVAILABLE)
    doomed, other = started(platform, server, 0), started(platform, server, 1)
    ids = range(1, 51)
    platform.client(doomed).process([(n, 1) for n in ids])
    doomed.kill()
    clock.set(-HOUR)
    manager.route = lambda _order_id: 1
    manager.default = Behaviour.BEFORE
    platform.client(other).wait_all_ended(TAKEN_OVER_WITHIN)
