"""Results of a run of `chaos.py`: as JSON and as one line."""

import collections
import dataclasses
import json
import pathlib
import statistics


class Recovery:
    """Of one kind of fault."""

    def __init__(self):
        self.tried, self.bit, self.times = 0, 0, 0
        self.targets = collections.Counter()
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)

    def add(self, target: str, times: int, seconds: dict[str, float]) -> None:
        self.tried += 1
        self.bit += times > 0
        self.times += times
        self.targets[target] += times > 0
        for what, took in seconds.items():
            self.seconds[what].append(took)

    def told(self) -> dict:
        recovered = {
            what: {"median": round(statistics.median(took), 2), "worst": round(max(took), 2)}
            for what, took in self.seconds.items()
        }
        targets = {name: count for name, count in sorted(self.targets.items()) if name}
        return {"tried": self.tried, "bit": self.bit, "times": self.times, "targets": targets, "recovered_after_s": recovered}


@dataclasses.dataclass
class Figures:
    seed: int
    minutes: float
    began: str
    faults: dict[str, Recovery]
    undisturbed: dict[str, float] = dataclasses.field(default_factory=dict)
    operations: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown: int = 0
    slowest: dict = dataclasses.field(default_factory=dict)
    violations: list[str] = dataclasses.field(default_factory=list)

    def judge_itself(self, callers_notice: bool = True) -> None:
        """A run that disturbed nobody shows nothing. `callers_notice`: the faults are such that some call has to fail."""
        for kind, recovery in self.faults.items():
            if recovery.bit == 0:
                self.violations.append(f"{kind} never bit in {recovery.tried} tries")
        if callers_notice and self.unknown == 0:
            self.violations.append("no call had an unknown outcome")

    def told(self) -> dict:
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**told, "faults": {kind: recovery.told() for kind, recovery in self.faults.items()}}

    def write(self, file: pathlib.Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.told(), indent=2) + "\n")

    def line(self) -> str:
        bites = ", ".join(f"{kind} {recovery.bit}" for kind, recovery in self.faults.items())
        kinds = self.faults.values()
        seconds = [took for kind in kinds for what in ("order", "numbered") for took in kind.seconds.get(what, ())]
        return (
            f"seed {self.seed}, {self.minutes:g} min: {sum(kind.bit for kind in kinds)} faults ({bites}); "
            + ", ".join(f"{count} {what}" for what, count in self.operations.items())
            + f"; {self.unknown} unknown outcomes; orders and numbers back after {max(seconds, default=0):.1f} s at most; slowest "
            f"{self.slowest.get('seconds', 0):.1f} s ({self.slowest.get('what', '-')}); {len(self.violations)} violations"
        )
