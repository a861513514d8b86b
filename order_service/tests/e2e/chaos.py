"""Faults at random, one after the other, under load, and the invariants at rest: `make chaos`.

    chaos.py [--minutes 10] [--seed N] [--faults kill:front,cut] [--output FILE] [--logs FOLDER]

Every role runs in two processes of its own. After each fault it is measured how long the platform takes to work again.
Ends with 1 if an invariant does not hold, if it took too long, or if the run has shown nothing. The same seed draws the same
faults in the same order; what they meet is another matter.
"""

import argparse
import datetime
import json
import pathlib
import random
import shutil
import sys
import time
import zlib

import stubs  # noqa: F401 - first of all, as everybody else imports what it generates
import event_client
from background_load import FeedReader, Writer
from chaos_checks import Checks
from chaos_faults import FAULTS, drawn, kind_of, named
from chaos_figures import Figures, Recovery
from chaos_load import CONFIG, EVENT, EventSender, LongLived, OrderSender
from chaos_probe import Probe
from chaos_world import World
from client import OrderClient
from history import History
from platform_under_test import Platform
from separate_roles import SHARDS
from waiting import elapsed_since

ORDER_CLIENTS, WRITERS, READERS = 4, 2, 2
# Small calls, on accounts that no order posts to.
LARGEST_CALL, FIRST_ACCOUNT = 20, 101


def _kept(event: dict) -> tuple:
    """Of an event that a reader has seen: all of it, but small."""
    return (event["type"], event["event_id"], zlib.crc32(json.dumps(event, sort_keys=True).encode()))


class Run:
    """One run; `figures` says how it went."""

    # Whether some call must have an unknown outcome, else the run has disturbed nobody.
    callers_notice = True

    def __init__(self, seed: int, minutes: float, kinds: list[str], say=print, logs: pathlib.Path | None = None):
        self.chance, self.minutes, self.kinds = random.Random(seed), minutes, kinds
        self.say, self.logs = say, logs
        began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.figures = Figures(seed, minutes, began, {kind_of(kind): Recovery() for kind in kinds})
        self.history, self.threads = History(), []

    def go(self) -> Figures:
        self.say(f"chaos: seed {self.figures.seed}, {self.minutes:g} minutes of {', '.join(self.kinds)}")
        platform = Platform()
        try:
            self._start(platform)
            begun = time.monotonic()
            self._disturb()
            self.figures.minutes = round(elapsed_since(begun) / 60, 1)
            self._settle()
        except Exception as problem:  # noqa: BLE001 - a run that cannot go on is a finding, too
            self._violated(f"the run ended: {type(problem).__name__}: {problem}")
        finally:
            self._close(platform)
        self.figures.judge_itself(self.callers_notice)
        return self.figures

    def _close(self, platform: Platform) -> None:
        for thread in self.threads:
            thread.stop.set()
        if self.logs:
            shutil.copytree(platform.home, self.logs, ignore=lambda *_: ["postgres", "d"], dirs_exist_ok=True)
        try:
            platform.close()
        except AssertionError as problem:
            self._violated(f"at the end: {problem}")

    def _start(self, platform: Platform) -> None:
        self.world = World(platform)
        self.ledger, self.client = self.world.ledger(timeout=60), OrderClient(self.world.order_addresses[0])
        platform.closing(self.client.close)
        event_client.put(self.ledger, event_client.on(CONFIG, EVENT, "noop"))
        addresses, first = self.world.order_addresses, self.chance.randrange(10**6)
        self.orders = [OrderSender(n, ORDER_CLIENTS, addresses, self.history) for n in range(ORDER_CLIENTS)]
        self.writers = [Writer(first + n, self.world.ledger(), LARGEST_CALL, FIRST_ACCOUNT) for n in range(WRITERS)]
        self.events = EventSender(self.world.ledger())
        self.readers = [FeedReader(n, self.world.ledger(), shard, _kept) for n in range(READERS) for shard in SHARDS]
        self.probe = Probe(addresses, self.world.ledger(), self.history)
        platform.closing(self.probe.close)
        self.threads = [*self.orders, *self.writers, self.events, *self.readers]
        self.load = LongLived(*self.orders, *self.writers, self.events)
        self.reading = LongLived(*self.readers)
        undisturbed = self.probe.seconds(time.monotonic())
        self.figures.undisturbed = {what: round(took, 2) for what, took in undisturbed.items()}

    def more_load(self, *clients) -> None:
        """Starts them beside the load of every run."""
        self.threads += clients
        self.load = LongLived(*clients, beside=self.load)

    def _disturb(self) -> None:
        """Every kind once at least, however short the time is."""
        begun = time.monotonic()
        for number, (kind, target) in enumerate(drawn(self.kinds, self.chance)):
            left = self.minutes * 60 - elapsed_since(begun)
            if (left <= 0 and number >= len(self.kinds)) or self.load.failed():
                return
            name = f"{kind} {named(target)}".strip()
            try:
                self._one_fault(kind, target, name, left)
            except Exception as problem:  # noqa: BLE001 - a finding; the platform may be in no state for more
                self._violated(f"{name}: {problem}")
                return

    def _one_fault(self, kind: str, target, name: str, left: float) -> None:
        with FAULTS[kind][0](self.world, target) as bite:
            seconds = self.probe.seconds(bite.since) if bite.times else {}
        self.figures.faults[kind].add(named(target), bite.times, seconds)
        after = ", ".join(f"{what} {took:.1f}" for what, took in seconds.items())
        outcome = f"back after s: {after}" if bite.times else "did not happen"
        self.say(f"chaos: {max(0.0, left):4.0f} s left; {name} x{bite.times}: {outcome}")
        self.world.all_ready()

    def _settle(self) -> None:
        for problem in self.load.finish():
            self._violated(problem)
        self._count()
        self.say("chaos: at rest; checking")
        for problem in Checks(self).run():
            self._violated(problem)
        for problem in self.reading.finish():
            self._violated(problem)

    def written(self) -> list[dict]:
        """Every event that clients wrote: what was not answered was repeated until it was."""
        return [*(event for writer in self.writers for event in writer.events), *self.probe.written]

    def _count(self) -> None:
        clients = [*self.writers, self.events]
        self.figures.operations = {
            "orders": len(self.history.entries),
            "order calls": sum(sender.calls for sender in self.orders),
            "ledger calls": sum(writer.calls for writer in self.writers),
            "ledger events": len(self.written()),
            "events": len(self.events.ids),
        }
        of_orders = sum(sender.unknown for sender in self.orders) + self.probe.unknown
        writing = [writer.client for writer in self.writers] + [self.events.ledger]
        self.figures.unknown = of_orders + sum(client.unknown for client in writing)
        slowest = max([*self.orders, *clients], key=lambda thread: thread.slowest)
        self.figures.slowest = {"what": slowest.name, "seconds": round(slowest.slowest, 2)}

    def _violated(self, what: str) -> None:
        self.figures.violations.append(f"seed {self.figures.seed}: {what}")
        self.say(f"chaos: VIOLATED: {what}")


def arguments(description: str, seed: int | None) -> argparse.ArgumentParser:
    """What every program of this kind is told; `seed`: the usual one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--output", type=pathlib.Path, default=None, help="where the figures are written, as JSON")
    parser.add_argument("--logs", type=pathlib.Path, default=None, help="a folder for the logs of all processes")
    return parser


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def carried_out(run: Run, words: argparse.Namespace) -> int:
    """The exit code of a program that makes this run."""
    figures = run.go()
    if words.output:
        figures.write(words.output)
    print(f"chaos: {figures.line()}")
    return 1 if figures.violations else 0


def main() -> int:
    parser = arguments(__doc__.splitlines()[0], None)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--faults", default=",".join(FAULTS), help="kinds, or kind:target, with commas")
    words = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if words.seed is None else words.seed
    return carried_out(Run(seed, words.minutes, words.faults.split(","), say, words.logs), words)


if __name__ == "__main__":
    sys.exit(main())
