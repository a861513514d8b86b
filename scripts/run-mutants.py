#!/usr/bin/env python3
"""Shows that the tests bite: one build holds all seeded faults of scripts/mutants/list.txt, and under each of them the tests
that claim it must fail.

    scripts/run-mutants.py             all of them
    scripts/run-mutants.py NAME …      some

First the tests run without any fault: one that fails then would kill everything. A fault under which a test passes has
survived: it is named, and the run fails. So is one that could not be tried: its test does not exist, or it does not fit the
code any more. A test that hangs under a fault has noticed it. Environment: CARGO_TARGET_DIR, MUTANT_SECONDS (90: when a
test hangs).
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS = int(os.environ.get("MUTANT_SECONDS", "90"))
PASSED, FAILED, BROKEN = "passed", "failed", "broken"


def mutants() -> dict[str, tuple[str, list[str]]]:
    """What is wrong under each name, and the tests that claim it."""
    found = {}
    for line in (ROOT / "scripts/mutants/list.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, what, tests = (part.strip() for part in line.split("|"))
            found[name] = (what, tests.split())
    return found


def build(packages: set[str]) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """The integration tests' program of each package, with the faults, and the folder it runs in."""
    words = ["cargo", "test", "--no-run", "--features", "store/mutants", "--test", "it", "--message-format", "json-render-diagnostics"]
    for package in sorted(packages):
        words += ["-p", package]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("mutants: the build failed")
    programs = {}
    for message in map(json.loads, done.stdout.splitlines()):
        if message.get("executable") and message["target"]["name"] == "it":
            manifest = pathlib.Path(message["manifest_path"])
            programs[manifest.parent.name] = (pathlib.Path(message["executable"]), manifest.parent)
    return programs


def run(program: tuple[pathlib.Path, pathlib.Path], test: str, mutant: str) -> tuple[str, str]:
    """How a test ends under a fault (none, if the name is empty), and what was said."""
    program, folder = program
    words = [program, test, "--exact", "--nocapture"]
    process = subprocess.Popen(
        words, cwd=folder, env={**os.environ, "MUTANT": mutant}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        # With the database that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return FAILED, "it hangs"
    if "does not apply" in said or not re.search(r"running 1 test\b", said):
        return BROKEN, said
    # It could not even set itself up, which says nothing of the fault.
    if "store/src/testing.rs" in first_panic(said) and "a task of this test panicked" not in said:
        return BROKEN, said
    return (PASSED if process.returncode == 0 else FAILED), said


def first_panic(said: str) -> str:
    """Where a test panicked first."""
    found = re.search(r"panicked at (\S+?):?$", said, re.MULTILINE)
    return found[1] if found else said.splitlines()[0] if said else "?"


def reason(said: str) -> str:
    """What a test that failed says first."""
    where = said.find("panicked at")
    return said[max(where, 0):][:600]


def main(wanted: list[str]) -> int:
    known = mutants()
    if unknown := set(wanted) - known.keys():
        sys.exit(f"mutants: unknown: {', '.join(sorted(unknown))}")
    chosen = {name: known[name] for name in wanted or known}
    claims = [(name, *test.split("::", 1)) for name, (_, tests) in chosen.items() for test in tests]
    programs = build({package for _, package, _ in claims})
    unfit = []
    for package, test in dict.fromkeys((package, test) for _, package, test in claims):
        how, said = run(programs[package], test, "")
        if how != PASSED:
            print(f"{how} without any fault: {package}::{test}\n{reason(said)}")
            unfit.append(test)
    if unfit:
        return 1
    survivors = []
    for name, package, test in claims:
        began = time.monotonic()
        how, said = run(programs[package], test, name)
        verdict = {FAILED: "killed", PASSED: "SURVIVED", BROKEN: "BROKEN"}[how]
        where = first_panic(said) if how == FAILED else "-"
        print(f"{verdict:8} {name:36} {package}::{test} at {where} ({time.monotonic() - began:.1f} s)", flush=True)
        if how == BROKEN:
            print(reason(said))
        if how != FAILED:
            survivors.append(f"{name} ({chosen[name][0]}): {package}::{test}")
    print(f"mutants: {len(chosen)} seeded, {len(claims)} tried, {len(claims) - len(survivors)} killed, {len(survivors)} not")
    for survivor in survivors:
        print(f"not killed: {survivor}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
