"""Behaviours of the foreign data manager for an order: one function each.

Shape: `(manager, order_id, nth question about it, call context) -> None or (status, message) of a refusal`. The data of
an order is a function of its id, so a test knows the expected data.
"""

import enum
import threading

import grpc

ALREADY_EXISTS = (grpc.StatusCode.UNKNOWN, "already exists")
UNREACHED = (grpc.StatusCode.UNAVAILABLE, "the order service took no callback")


class Behaviour(enum.Enum):
    BEFORE = "calls back, then returns; the same again when asked again"
    AFTER = "returns, and calls back `delay` seconds later"
    TWICE = "calls back twice before the return and once after it, only the first time with the first data"
    NOT_FIRST = "forgets the callback of the first question"
    UNAVAILABLE_TWICE = "refuses the first two questions"
    LATE_ONCE = "calls back once, `late` seconds after the first question, and knows nothing else ever after"
    ONCE = "calls back before the return until it was answered once, and refuses ever after"
    SILENT = "returns and never calls back"
    HANGING = "never returns"
    SLOW_CALL = "takes `slow` seconds, then calls back, then returns"


def first_data(order_id: int) -> tuple[int, int]:
    """The storage and pickup point of an order: never 0, sometimes negative."""
    number = order_id % 100_003 + 1
    return (number if order_id % 5 else -number, number + 7)


def other_data(order_id: int) -> tuple[int, int]:
    """Data of the same order that must never be stored."""
    storage, pickup = first_data(order_id)
    return (abs(storage) + 200_000, pickup + 200_000)


def answer(manager, plan, order_id: int, nth: int, context):
    """Acts out the plan for one question; a status code as plan refuses every question with it."""
    if isinstance(plan, grpc.StatusCode):
        manager.count(plan)
        return (plan, f"refused by plan: {order_id}")
    return _ACTS[plan](manager, order_id, nth, context)


def _before(manager, order_id, _nth, _context):
    return None if manager.send(order_id) else UNREACHED


def _after(manager, order_id, _nth, _context):
    manager.send_in(manager.delay, order_id)


def _twice(manager, order_id, nth, context):
    if nth == 1:
        manager.count(Behaviour.TWICE)
    refusal = _before(manager, order_id, nth, context)
    manager.send(order_id, other_data(order_id))
    manager.send_in(manager.delay, order_id, other_data(order_id))
    return refusal


def _not_first(manager, order_id, nth, context):
    if nth > 1:
        return _before(manager, order_id, nth, context)
    manager.count(Behaviour.NOT_FIRST)
    return None


def _unavailable_twice(manager, order_id, nth, context):
    if nth > 2:
        return _before(manager, order_id, nth, context)
    manager.count(Behaviour.UNAVAILABLE_TWICE)
    return (grpc.StatusCode.UNAVAILABLE, "not now")


def _late_once(manager, order_id, nth, _context):
    if nth > 1:
        return ALREADY_EXISTS
    manager.count(Behaviour.LATE_ONCE)
    manager.send_in(manager.late, order_id)
    return None


def _once(manager, order_id, nth, context):
    if order_id in manager.acknowledged:
        manager.count(Behaviour.ONCE)
        return ALREADY_EXISTS
    return _before(manager, order_id, nth, context)


def _silent(manager, _order_id, _nth, _context):
    manager.count(Behaviour.SILENT)


def _hanging(manager, _order_id, _nth, context):
    manager.count(Behaviour.HANGING)
    gone = threading.Event()
    if context.add_callback(gone.set):
        while not (gone.wait(0.05) or manager.closed.is_set()):
            pass
    return (grpc.StatusCode.CANCELLED, "nobody waits any more")


def _slow_call(manager, order_id, nth, context):
    manager.count(Behaviour.SLOW_CALL)
    manager.closed.wait(manager.slow)
    return _before(manager, order_id, nth, context)


_ACTS = {behaviour: globals()[f"_{behaviour.name.lower()}"] for behaviour in Behaviour}
