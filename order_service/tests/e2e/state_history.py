"""Linearizability checker for one versioned state.

Each operation has an interval (invoked, returned) and a position in the order of versions: the write that made version
v, then the reads of v; a refused compare-and-set that expected v comes after the write of v + 1. The history is
linearizable if versions are gap-free with one write each, every write replaced the version that it expected, every read
saw the value of its version's write, and no operation that ended before another began has a greater position.
(Intervals have no 2+2: checking pairs suffices.)
"""

import dataclasses
import threading

READ, WRITE, REFUSED = "read", "write", "refused"


@dataclasses.dataclass(frozen=True)
class Operation:
    """`version`: the one read, made, or (refused) expected in vain; `replaced`: the one that a write expected."""

    kind: str
    version: int
    value: object
    invoked: float
    returned: float
    replaced: int | None = None

    def place(self) -> tuple[int, int]:
        if self.kind == REFUSED:
            return (self.version + 1, 0)
        return (self.version, 1 if self.kind == READ else 0)


class StateHistory:
    """Written by many threads, checked at the end. `first`: the version that stood before, with its value."""

    def __init__(self, first: int, value):
        self._lock = threading.Lock()
        self._first = Operation(WRITE, first, value, float("-inf"), float("-inf"))
        self.operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)

    def count(self, kind: str) -> int:
        return sum(operation.kind == kind for operation in self.operations)

    def problems(self) -> list[str]:
        """Nothing if the history is linearizable."""
        everything = [self._first, *self.operations]
        writes = {}
        for operation in everything:
            if operation.kind == WRITE and writes.setdefault(operation.version, operation) is not operation:
                return [f"version {operation.version} was made twice"]
        wrong = [o for o in self.operations if o.kind == WRITE and o.version != o.replaced + 1]
        if wrong:
            return [f"a write that replaced another version than it expected: {write}" for write in wrong]
        if sorted(writes) != list(range(min(writes), max(writes) + 1)):
            return ["the chain of versions has a gap"]
        return [*self._wrong_reads(writes), *self._wrong_refusals(writes), *self._out_of_order(everything)]

    def _wrong_reads(self, writes: dict) -> list[str]:
        reads = [operation for operation in self.operations if operation.kind == READ]
        return [f"nobody wrote {r}" for r in reads if r.version not in writes or writes[r.version].value != r.value]

    def _wrong_refusals(self, writes: dict) -> list[str]:
        """Refused before anybody had begun to make the next version."""
        refused = [operation for operation in self.operations if operation.kind == REFUSED]
        nexts = [(r, writes.get(r.version + 1)) for r in refused]
        return [f"refused without cause: {r}" for r, after in nexts if after is None or r.returned < after.invoked]

    @staticmethod
    def _out_of_order(operations: list) -> list[str]:
        """A sweep by time: the greatest place among all that have returned, against each that is invoked."""
        found, greatest, returned = [], (float("-inf"), 0), sorted(operations, key=lambda o: o.returned)
        ended = 0
        for operation in sorted(operations, key=lambda o: o.invoked):
            while ended < len(returned) and returned[ended].returned < operation.invoked:
                greatest, ended = max(greatest, returned[ended].place()), ended + 1
            if operation.kind != REFUSED and operation.place() < greatest:
                found.append(f"{operation} after {greatest} had been seen")
            if operation.kind == WRITE and operation.place() == greatest:
                found.append(f"{operation} after it had been seen")
        return found
