"""Load of `chaos.py`: clients of orders and events that repeat until they are answered."""

import collections
import itertools
import random
import threading
import time

import grpc

import event_client
from background_load import Background
from client import OrderClient, result_of
from history import UNKNOWN_CODES, History
from ledger_client import LostAnswer
from waiting import elapsed_since, wait_until

ANSWERED_WITHIN = 60
# Shorter than what the service itself waits (10 s): a call may end before its order does.
PATIENCE = 4
EVENT = "chaos"
CONFIG = "chaos-config"


class OrderSender(Background):
    """Batches of new orders, each repeated, at the next replica, until it is answered; sometimes asked for again later."""

    def __init__(self, number: int, of: int, addresses: list[str], history: History):
        super().__init__(f"order client {number}")
        self.clients, self.chance, self.history = [OrderClient(a) for a in addresses], random.Random(number), history
        self._ids, self._turn = itertools.count(number + 1, of), number
        self.calls, self.unknown, self.slowest = 0, 0, 0.0
        self.codes = collections.Counter()
        self._answered: list[tuple] = []

    def step(self) -> None:
        pairs = [(next(self._ids), self.chance.randint(1, 50)) for _ in range(self.chance.randint(1, 8))]
        begun = time.monotonic()
        answers = wait_until(lambda: self._try(pairs), ANSWERED_WITHIN, f"an answer to orders {pairs}")
        self.slowest = max(self.slowest, elapsed_since(begun))
        self.history.answered(answers)
        self._answered += [result_of(answer) for answer in answers if answer.is_processed]
        if self._answered and self.chance.random() < 0.1:
            self._ask_again()
        self.stop.wait(self.chance.expovariate(8))

    def _ask_again(self) -> None:
        known = self.chance.sample(self._answered, min(5, len(self._answered)))
        pairs = [(order_id, product_id) for order_id, product_id, *_ in known]
        answers = self._try(pairs)
        for answer, before in zip(answers or [], known):
            assert result_of(answer) == before, f"order {before[0]} was answered {before}, and now {answer}"

    def _try(self, pairs: list) -> list | None:
        self.calls += 1
        try:
            return self.clients[self._turn % len(self.clients)].process(pairs, timeout=PATIENCE)
        except grpc.RpcError as error:
            self.codes[error.code()] += 1
            overloaded = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert overloaded or error.code() in UNKNOWN_CODES, f"orders {pairs}: {error}"
            # Nobody was there: nothing has happened.
            self.unknown += not overloaded and "onnection refused" not in str(error.details())
            self._turn += 1
            return None

    def end(self) -> None:
        for client in self.clients:
            client.close()


class EventSender(Background):
    """Events under keys of their own, each sent until it is answered, which start one task each."""

    def __init__(self, ledger):
        super().__init__("event client")
        self.ledger, self.ids, self.slowest = ledger, [], 0.0

    def step(self) -> None:
        key, begun = f"key-{len(self.ids)}", time.monotonic()
        self.ids.append(wait_until(lambda: self._try(key), ANSWERED_WITHIN, f"event {key} answered in the end"))
        self.slowest = max(self.slowest, elapsed_since(begun))
        self.stop.wait(0.4)

    def _try(self, key: str) -> str | None:
        try:
            answer = self.ledger.call("POST", event_client.EVENTS, {"name": EVENT, "event_key": key})
        except LostAnswer:
            return None
        return None if answer.status == 503 else answer.ok(200, 201)["_id"]


class LongLived:
    """Threads that are started, and ended, together; what went wrong in each is told by name."""

    def __init__(self, *threads: Background, beside: "LongLived | None" = None):
        """`beside`: threads that have been started, and end with these."""
        for thread in threads:
            thread.start()
        self.threads = [*threads, *(beside.threads if beside else ())]

    def failed(self) -> bool:
        return any(thread.failure for thread in self.threads)

    def finish(self) -> list[str]:
        problems, lock = [], threading.Lock()

        def end(thread: Background) -> None:
            try:
                thread.finish()
            except BaseException as problem:  # noqa: BLE001 - told by the caller
                with lock:
                    problems.append(f"{thread.name}: {problem}")

        ending = [threading.Thread(target=end, args=(thread,)) for thread in self.threads]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()
        return problems
