"""`make chaos` for one round: its faults happen, the invariants hold, and a run without faults is reported as such."""

import pytest

from chaos import Run
from chaos_figures import Figures, Recovery
from chaos_matrix import Matrix

pytestmark = pytest.mark.alone


@pytest.mark.timeout(300)
def test_one_round_of_faults_breaks_no_promise():
    of_connections = ["cut", "lost_commit:cut_reply", "lost_answer:write_events cut_reply", "backends_terminated"]
    # Whose caller is asleep for 10 s has an unknown outcome for certain.
    kinds = ["pause:front", "kill:front", *of_connections, "lost_callbacks", "doubled_callbacks"]
    figures = Run(seed=1, minutes=0, kinds=kinds).go()
    print(figures.line())
    assert figures.violations == []


@pytest.mark.timeout(300)
def test_a_statement_of_each_path_may_lose_its_connection_in_every_way():
    of_each_path = ["accept_orders", "write_events", "put_states", "take_lock", "claim_jobs", "allocate_event_ids"]
    of_each_path += ["insert_events", "end_task"]
    matrix = Matrix(1, [*of_each_path, "begin_blocks"])
    figures = matrix.go()
    print(figures.line())
    assert figures.violations == [] and matrix.missed == []
    assert all(recovery.bit == len(of_each_path) + 1 for recovery in figures.faults.values())


def test_a_run_that_has_disturbed_nobody_fails():
    dull = Figures(1, 0.5, "now", {"kill": Recovery(), "cut": Recovery()})
    dull.faults["cut"].add("", 1, {"order": 0.1})
    dull.judge_itself()
    assert [violation.split(" in ")[0] for violation in dull.violations] == ["kill never bit", "no call had an unknown outcome"]
