"""Hazard: a cancelled call leaves a connection idle in transaction, or loses an order.

2,000 calls are aborted after random milliseconds. Meanwhile no backend is idle in a transaction for over a second;
afterwards every stored order has finished, and every other one can still be sent.
"""

import random
import threading

import grpc
import pytest

import embedded_postgres
from client import assert_processed_as_given, request_of
from history import OK, UNKNOWN, History
from stubs import orders

CALLS, CLIENTS, LONGEST_WAIT_SECONDS = 2000, 8, 0.25
IDLE_IN_TRANSACTION = """
    SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%'
                              AND state_change < clock_timestamp() - interval '1 second'),
           count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""


class IdleWatch:
    """Looks at the backends all the time; `found` are the samples with an idle transaction."""

    def __init__(self, data_dir):
        self.samples, self.found, self.most_backends = 0, [], 0
        self._data_dir, self._stop = data_dir, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self):
        while not self._stop.wait(0.2):
            idle, backends = map(int, embedded_postgres.psql(self._data_dir, IDLE_IN_TRANSACTION).split("|"))
            self.samples, self.most_backends = self.samples + 1, max(self.most_backends, backends)
            if idle:
                self.found.append(idle)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        self._thread.join(10)


def abort_calls(client, history: History, first_id: int, calls: int) -> None:
    """Every call gets new orders; every eighth is a stream."""
    chance, pause = random.Random(), threading.Event()
    for number in range(calls):
        first = first_id + number * 5
        pairs = [(order_id, 1) for order_id in range(first, first + chance.randint(1, 5))]
        if number % 8 == 7:
            requests = [orders.ProcessOrdersRequest.OrderRequest(order_id=i, product_id=p) for i, p in pairs]
            call = client.stub.ProcessOrderStream(iter(requests), timeout=10)
        else:
            call = client.stub.ProcessOrders.future(request_of(pairs), timeout=10)
        # Not a wait: the random moment of the abort, mostly early, sometimes after the answer.
        pause.wait(LONGEST_WAIT_SECONDS * chance.random() ** 4)
        call.cancel()
        try:
            answers = call.result().processed_orders if number % 8 != 7 else list(call)
            history.answered(answers)
        except (grpc.RpcError, grpc.FutureCancelledError):
            history.failed(pairs, call.code())


@pytest.mark.timeout(180)
@pytest.mark.long
def test_two_thousand_aborts(platform):
    manager = platform.data_manager()
    service = platform.order_service()
    clients, history = [platform.client(service) for _ in range(CLIENTS)], History()
    share = CALLS // CLIENTS
    threads = [
        threading.Thread(target=abort_calls, args=(client, history, number * 100_000, share))
        for number, client in enumerate(clients)
    ]
    with IdleWatch(platform.data_dir) as watch:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        clients[0].wait_all_ended(timeout=20)
    assert watch.samples >= 5 and watch.most_backends > 0, "nothing was looked at"
    assert not watch.found, f"idle in transaction in {len(watch.found)} of {watch.samples} samples"
    aborted = history.codes[grpc.StatusCode.CANCELLED]
    print(f"{aborted} aborted, {history.count(OK)} orders answered, {history.count(UNKNOWN)} unknown")
    assert aborted > CALLS / 10 and history.count(OK) > 0, dict(history.codes)
    stored = clients[0].list_all()
    history.check_against(stored)

    everything = [(entry.order_id, entry.product_id) for entry in history.entries]
    answers = clients[0].process(everything, timeout=30)
    assert_processed_as_given(answers, platform.manager_client(manager).given())
    now = {answer.order_id: (answer.storage_id, answer.pickup_point_id) for answer in answers}
    assert all(now[order.order_id] == (order.storage_id, order.pickup_point_id) for order in stored)
