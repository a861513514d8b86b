"""Hazard: a shard's server is killed under eight writers: events are lost, duplicated, or only partially answered.

Two shards on separate servers; the one with the upper half of the hashes is killed and restarted. A call that met the
outage is 503 with a status for each event; repeated until it is 200 it stores each event exactly once.
"""

import collections
import concurrent.futures
import random
import signal
import threading

import pytest

from client import FAILED, FINISHED, request_of
from ledger_client import LedgerClient, LostAnswer
from ledger_events import INFLOW, OUTFLOW, START, outflow, utc_now, written_time
from ledger_oracle import total_of
from ledger_sharding import ids_on, shard_of
from own_postgres import OwnPostgres, shard_map
from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from waiting import wait_until

RANGES = {"steady": (0x00, 0x7F), "shaky": (0x80, 0xFF)}
WRITERS, EVENTS_A_CALL = 8, 30
KILLS = [signal.SIGKILL, signal.SIGQUIT, signal.SIGKILL, signal.SIGQUIT]
SOON = 30  # seconds in which the service must have found its way back


class TwoServers:
    """The service on two servers: `steady` has the control database too, `shaky` is the one to be killed."""

    def __init__(self, platform):
        self.steady = OwnPostgres(platform.home / "steady", "control", "steady")
        platform.closing(self.steady.stop)
        self.shaky = OwnPostgres(platform.home / "shaky", "shaky")
        platform.closing(self.shaky.stop)
        shards = [("steady", "00", "7f", self.steady.url("steady")), ("shaky", "80", "ff", self.shaky.url("shaky"))]
        file = shard_map(platform.home / "shards.yaml", shards)
        flags = ("--database-url", self.steady.url("control"), "--shards", str(file))
        done = run_command([ORDER_SERVICE_BIN, "migrate", *flags], timeout=60)
        assert done.returncode == 0, done.stderr
        self.service = platform.order_service(*flags)


class Writer(threading.Thread):
    """Writes calls of new events to both shards and repeats each until it is answered 200."""

    def __init__(self, number: int, port: int, stop: threading.Event):
        super().__init__()
        self.number, self.stop = number, stop
        self.client = LedgerClient(port, timeout=30)
        self.events, self.answered = [], collections.defaultdict(list)  # event id -> its statuses, call by call
        self.done, self.unavailable, self.lost, self.failure = 0, 0, 0, None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                first = len(self.events)
                storages = [random.randrange(1, 41) for _ in range(EVENTS_A_CALL)]
                call = [outflow(s, "0.5", f"w{self.number}-{first + n}") for n, s in enumerate(storages)]
                self.events += call
                self._until_written(call)
                self.done += 1
        except BaseException as problem:  # noqa: BLE001 - raised by the test
            self.failure = problem
        finally:
            self.client.close()

    def _until_written(self, call: list) -> None:
        wait_until(lambda: self._try(call), 60, "a call answered 200 in the end")

    def _try(self, call: list) -> bool:
        try:
            answer = self.client.write(call)
        except LostAnswer:
            self.lost += 1
            return False
        body = answer.ok(200, 503)
        assert [result["event_id"] for result in body["results"]] == [event["event_id"] for event in call]
        for event, result in zip(call, body["results"], strict=True):
            shard = shard_of({"storage_id": event["attributes"]["storage_id"]}, RANGES)
            may_be_away = (answer.status, shard) == (503, "shaky")
            allowed = ("created", "duplicate", "unavailable") if may_be_away else ("created", "duplicate")
            assert result["status"] in allowed and result.get("shard", shard) == shard, (answer.status, result)
            self.answered[event["event_id"]].append(result["status"])
        if answer.status == 503:
            answer.refused(503, "UNAVAILABLE")
            self.unavailable += 1
        return answer.status == 200


def kill_and_restart(servers: TwoServers, writers: list, ledger) -> None:
    """Under load, again and again; while the server is away, its balances are 503 and the other's are read."""
    for sign in KILLS:
        before = [writer.done for writer in writers]

        def all_go_on(old=before) -> bool:
            return all(writer.done > done for writer, done in zip(writers, old, strict=True))

        wait_until(all_go_on, SOON, "every writer goes on")
        refused = sum(writer.unavailable for writer in writers)
        servers.shaky.kill(sign)
        check_reading_meanwhile(ledger)
        wait_until(lambda n=refused: sum(w.unavailable for w in writers) > n, SOON, "a call met the dead server")
        servers.shaky.start()


def check_reading_meanwhile(ledger) -> None:
    """All at once, as a shard that is away may take a while to be given up."""
    shaky, steady = ({"storage_id": next(ids_on(shard, ranges=RANGES))} for shard in ("shaky", "steady"))
    with concurrent.futures.ThreadPoolExecutor(4) as readers:
        refused = [
            readers.submit(ledger.balances, OUTFLOW, shaky),
            readers.submit(ledger.balances, OUTFLOW, shaky, group_by=["product_id"]),
            readers.submit(ledger.turnovers, OUTFLOW, shaky, written_time(START), written_time(utc_now())),
            readers.submit(ledger.page, OUTFLOW, shaky),
        ]
        ledger.balances(OUTFLOW, steady, group_by=["product_id"]).ok()
        ledger.page(OUTFLOW, steady).ok()
        for answer in refused:
            answer.result().refused(503, "UNAVAILABLE")


@pytest.mark.timeout(240)
@pytest.mark.long
def test_eight_writers_and_a_killed_server(platform):
    servers, stop = TwoServers(platform), threading.Event()
    ledger = platform.ledger_client(servers.service)
    writers = [Writer(number, servers.service.http_port, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        kill_and_restart(servers, writers, ledger)
    finally:
        stop.set()
        for writer in writers:
            writer.join(90)
    failures = [writer.failure for writer in writers if writer.failure]
    assert not failures, failures[0]
    check_each_event_is_there_once(ledger, writers, servers.shaky.kills)


def check_each_event_is_there_once(ledger, writers: list, kills: int) -> None:
    events = [event for writer in writers for event in writer.events]
    histories = {key: seen for writer in writers for key, seen in writer.answered.items()}
    created_twice = [key for key, seen in histories.items() if seen.count("created") > 1]
    assert not created_twice, created_twice[:3]
    for storage in range(1, 41):
        wanted = [event for event in events if event["attributes"]["storage_id"] == storage]
        listed = [event["event_id"] for event in ledger.listing(OUTFLOW, {"storage_id": storage})]
        assert sorted(listed) == sorted(event["event_id"] for event in wanted)
        assert total_of(ledger.balances(OUTFLOW, {"storage_id": storage}).ok())[0] * 2 == len(wanted)
    assert sum(ledger.events_stored().values()) == len(events)
    unknown = sum("unavailable" in seen for seen in histories.values())
    happened = sum("unavailable" in seen and "created" not in seen for seen in histories.values())
    calls = sum(writer.unavailable + writer.lost for writer in writers)
    print(f"{kills} kills, {calls} calls without 200, {unknown} of {len(events)} events unknown, {happened} were there")
    assert kills == len(KILLS) and calls >= kills and unknown > 0


@pytest.fixture
def orders_over_both(platform):
    """The servers, the order client, the foreign data manager, and a place on either shard to put things to."""
    servers, foreign = TwoServers(platform), platform.foreign_data_manager(batch=True)
    storages = {shard: next(ids_on(shard, ranges=RANGES)) for shard in RANGES}
    points = {shard: next(ids_on(shard, "pickup_point_id", ranges=RANGES)) for shard in RANGES}
    client = platform.client(servers.service)
    client.process([])  # connected
    return servers, client, foreign, storages, points


@pytest.mark.long
def test_an_order_waits_for_its_shard(platform, orders_over_both):
    servers, client, foreign, storages, points = orders_over_both
    ways = [("shaky", "steady"), ("steady", "steady"), ("steady", "shaky"), ("shaky", "shaky")]
    places = {number: (storages[a], points[b]) for number, (a, b) in enumerate(ways, 1)}
    foreign.data = places.__getitem__
    servers.shaky.kill()
    answers = client.process([(order_id, 7) for order_id in places], timeout=6)
    assert [answer.is_processed for answer in answers] == [False, True, False, False]
    for order_id in (1, 3, 4):
        wait_until(lambda n=order_id: client.get(n).HasField("next_attempt_at"), SOON, "the order waits for a retry")
        order = client.get(order_id)
        assert order.state not in (FINISHED, FAILED), order
        assert "UNAVAILABLE" in order.last_error or "shaky" in order.last_error, order.last_error
        assert (order.storage_id, order.pickup_point_id) == places[order_id]
    asked = dict(foreign.questions)
    servers.shaky.start()
    wait_until(lambda: len(client.list_all(FINISHED)) == 4, SOON, "the waiting orders finished by themselves")
    assert dict(foreign.questions) == asked, "asked again for data that was stored"
    ledger = platform.ledger_client(servers.service)
    out = {n: total_of(ledger.balances(OUTFLOW, {"storage_id": n}).ok())[0] for n in storages.values()}
    into = {n: total_of(ledger.balances(INFLOW, {"pickup_point_id": n}).ok())[1] for n in points.values()}
    assert set(out.values()) == {2} and set(into.values()) == {2}


@pytest.mark.long
def test_orders_of_the_living_shard_are_not_held_up(orders_over_both):
    """Every second order can only wait; the others wait for no time-out of theirs."""
    servers, client, foreign, storages, points = orders_over_both
    shards = ["shaky", "steady"]
    foreign.data = lambda order_id: (storages[shards[order_id % 2]], points[shards[order_id % 2]])
    servers.shaky.kill()
    call = client.stub.ProcessOrders.future(request_of((order_id, 7) for order_id in range(200)), timeout=6)
    wait_until(lambda: len(client.list_all(FINISHED)) == 100, 3, "the orders of the living shard")
    assert all(answer.is_processed for answer in client.process([(n, 7) for n in range(1001, 1101, 2)], timeout=3))
    answers = call.result().processed_orders
    assert [answer.order_id for answer in answers if answer.is_processed] == list(range(1, 200, 2))
    servers.shaky.start()
    wait_until(lambda: len(client.list_all(FINISHED)) == 250, 60, "all orders finished in the end")
