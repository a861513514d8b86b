"""Hazard: the tour's comparison accepts a wrong page, or rejects a correct one.

No process is needed: the page's text is compared with given output.
"""

import pytest

from tour_output import difference

TABLE = ["┌───────┬─────────┐", "│ order ┆ storage │", "╞═══════╪═════════╡", "│ 17    ┆ 62      │", "└───────┴─────────┘"]
WIDER = ["┌────────┬─────────┐", "│ order  ┆ storage │", "╞════════╪═════════╡", "│ 17     ┆ 4       │", "└────────┴─────────┘"]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (["at 2026-11-20T17:57:33.010989Z"], ["at 2027-01-02T00:00:00Z"]),
        (["shard-of c86a8df0febdadcd94ebed63182dd24faff37b71"], ["shard-of 058f6eed8ad04c9d0df07dadba1ea971c61699f5"]),
        (["data_manager (process 12) was ended"], ["data_manager (process 4711) was ended"]),
        (["first", "…", "last"], ["first", "a", "b", "last"]),
        (["first", "…"], ["first"]),
        (['{"seq":…,"type":"a"}'], ['{"seq":12,"type":"a"}']),
    ],
)
def test_what_never_is_the_same_may_differ(shown, printed):
    assert difference(shown, printed, set(), {}) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ([], ["curl: (7) Failed to connect"]),
        (["12 events"], ["10 events"]),
        (["first", "last"], ["first", "more", "last"]),
        (["one"], []),
        (["a.b"], ["axb"]),
    ],
)
def test_everything_else_must_not(shown, printed):
    assert difference(shown, printed, set(), {}) is not None


def test_a_drawn_value_is_the_one_that_was_read():
    assert difference(TABLE, WIDER, set(), {}) is not None
    assert difference(TABLE, WIDER, set(), {"62": "4"}) is None
    assert difference(["storage_id=62"], ["storage_id=5"], set(), {"62": "4"}) is not None


def test_cells_of_a_column_that_varies_hold_anything_but_what_was_read():
    assert difference(TABLE, WIDER, {"storage"}, {}) is None
    assert difference(TABLE, WIDER, {"order"}, {}) is not None
    assert difference(TABLE, WIDER, {"storage"}, {"62": "5"}) is not None
    empty = [line.replace("4 ", "  ") for line in WIDER]
    assert difference(empty, WIDER, {"storage"}, {}) is not None
