"""Every named statement that the platform executes x every way to lose its connection: `make fault-matrix`.

    chaos_matrix.py [--statements claim_jobs,…] [--seed N] [--output FILE] [--logs FOLDER]

The statements are those that a proxy sees again and again under load on every path. Each *cell*, a statement and a fault,
happens once; afterwards the platform has to work again, and every process to be ready with its leases alive, while the broken
connections are still silent. At rest the invariants of `chaos.py` are checked. Cells of different statements happen together.
Ends with 1 if something does not hold. Cells that did not happen, and names that are not executed, are told.
"""

import pathlib
import re
import sys
import time

import stubs  # noqa: F401 - first of all, as everybody else imports what it generates
import chaos_paths
from chaos import Run, arguments, carried_out, say
from chaos_world import DUTIES
from separate_roles import SHARDS
from waiting import elapsed_since, wait_until

FAULTS = {"dropped": "cut_reply", "half_open": "hold_request", "held": "hold_reply"}
AT_A_TIME = 8
WORKS_WITHIN = 30
# What comes less often than that does not come at every look.
HAPPENS_WITHIN = 12
ROUNDS = 3
# Twice: what is executed in the first time only belongs to the start.
WARM_UP = 25


def named_in_source() -> set[str]:
    """Every name that a statement of the programs has."""
    rust = [file for folder in ("crates", "order_service") for file in (stubs.REPOSITORY / folder).glob("**/src/**/*.rs")]
    named = r"\b(?:statement|PgOperation::named|lease_operation)\(\s*(?:\w+\(\s*)?\"([a-z]+(?:_[a-z]+)*)\"|-- ([a-z]+(?:_[a-z]+)+)(?:\\?$|\"|\\n)"
    return {first or second for file in rust for first, second in re.findall(named, file.read_text(), re.M)}


class Matrix(Run):
    """One run over all cells of `statements` (empty: of all that are seen)."""

    # The platform repeats what lost its connection: a quick one shows nobody anything of a few cells.
    callers_notice = False

    def __init__(self, seed: int, statements: list[str], say=print, logs: pathlib.Path | None = None):
        super().__init__(seed, 0, list(FAULTS), say, logs)
        self.statements, self.missed = statements, []

    def _start(self, platform) -> None:
        super()._start(platform)
        ledger, address = self.world.ledger, self.world.order_addresses[0]
        self.locks = chaos_paths.Locks(ledger())
        kinds = (chaos_paths.States, chaos_paths.Reads, chaos_paths.Tasks, chaos_paths.Configs, chaos_paths.Runs)
        paths = [self.locks, chaos_paths.OrderReads(address), *(kind(kind.__name__.lower(), ledger()) for kind in kinds)]
        self.more_load(*paths)

    def written(self) -> list[dict]:
        return [*super().written(), *self.locks.events]

    def _disturb(self) -> None:
        names = self.statements or self._executed_again()
        self.say(f"matrix: {len(names)} statements x {len(FAULTS)} faults, {AT_A_TIME} at a time")
        left = {fault: names for fault in FAULTS}
        for _ in range(ROUNDS):
            for fault in FAULTS:
                left[fault] = self._all(fault, left[fault])
        self.missed = [f"{name} {fault}" for fault, names in left.items() for name in names]
        self.say(f"matrix: {len(self.missed)} cells did not happen: {', '.join(self.missed)}")
        never = named_in_source() - self.world.proxy.executed().keys()
        self.say(f"matrix: {len(never)} names of the source were not executed: {', '.join(sorted(never))}")

    def _executed_again(self) -> list[str]:
        """Statements that are executed all the time, the most frequent ones first: `_all` puts them beside rare ones."""
        self.load.threads[0].stop.wait(WARM_UP)
        before = self.world.proxy.executed()
        self.load.threads[0].stop.wait(WARM_UP)
        after = self.world.proxy.executed()
        more = {name: times - before.get(name, 0) for name, times in after.items()}
        return sorted((name for name, times in more.items() if times), key=lambda name: -more[name])

    def _all(self, fault: str, names: list[str]) -> list[str]:
        """Every name's cell of one fault; those that did not happen."""
        missed, groups = [], max(1, -(-len(names) // AT_A_TIME))
        for first in range(groups):
            if self.load.failed():
                return names
            missed += self._together(fault, names[first::groups])
        return missed

    def _together(self, fault: str, names: list[str]) -> list[str]:
        proxy = self.world.proxy
        cells = {name: proxy.inject({"statement": name}, FAULTS[fault]) for name in names}
        end = time.monotonic() + HAPPENS_WITHIN
        while (waiting := [name for name, cell in cells.items() if not proxy.injected(cell)]) and time.monotonic() < end:
            time.sleep(0.05)
        happened = {name: proxy.injected(cell) for name, cell in cells.items()}
        for cell in cells.values():
            proxy.remove(cell)
        since = time.monotonic()
        try:
            if any(happened.values()):
                self._recovered(fault, [name for name, times in happened.items() if times], since)
        except Exception as problem:  # noqa: BLE001 - a finding
            self._violated(f"{fault} {', '.join(names)}: {problem}")
        proxy.release_all()
        return waiting

    def _recovered(self, fault: str, names: list[str], since: float) -> None:
        seconds = self.probe.seconds(since)
        self.world.all_ready()
        wait_until(self._leases_alive, WORKS_WITHIN, "every duty's lease")
        seconds["ready"] = elapsed_since(since)
        for name in names:
            self.figures.faults[fault].add(name, 1, seconds)
        worst = max(seconds, key=seconds.get)
        self.say(f"matrix: {fault:9} {', '.join(names)}: {worst} after {seconds[worst]:.1f} s")
        assert seconds[worst] < WORKS_WITHIN, f"{worst} only after {seconds[worst]:.1f} s"

    def _leases_alive(self) -> bool:
        return all(len(self.world.database.epochs(role)) == len(SHARDS) for role in DUTIES)


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], 1)
    parser.add_argument("--statements", default="", help="their names, with commas; all that are seen, if left out")
    words = parser.parse_args()
    statements = [name for name in words.statements.split(",") if name]
    return carried_out(Matrix(words.seed, statements, say, words.logs), words)


if __name__ == "__main__":
    sys.exit(main())
