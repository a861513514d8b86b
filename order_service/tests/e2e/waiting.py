"""Waiting for a condition, never for an amount of time."""

import time


def wait_until(predicate, timeout: float, what: str, every: float = 0.05):
    """The first truthy value of `predicate()`; an `AssertionError` naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout} s: {what} (last seen: {value!r})")
        time.sleep(every)


def elapsed_since(start: float) -> float:
    """Seconds since `start`, a `time.monotonic()`."""
    return time.monotonic() - start


def stands_still(measure, seconds: float = 1.5):
    """A predicate: `measure()` is not 0 and has not changed for so long."""
    seen = [0, time.monotonic()]

    def check():
        value = measure()
        if value != seen[0]:
            seen[:] = [value, time.monotonic()]
        return value and elapsed_since(seen[1]) >= seconds

    return check
