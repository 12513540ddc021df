"""How far a cycle of Loop C has come: it comes back, and a damaged record is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.errors import StoreError
from sona.loops.deep_cycle import DeepResult, Progress
from sona.state import State, digest

STAGES = ("link", "dream", "compare", "consolidate", "abstract", "measure")
PAIRS = (("a", "b", 0.99), ("c", "d", 1.0))


@given(
    st.integers(0, 100),
    st.sets(st.sampled_from(STAGES)).map(lambda chosen: tuple(stage for stage in STAGES if stage in chosen)),
    st.integers(0, 6),
    st.integers(0, 9),
    st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1), st.floats(0.9, 1.0))),
)
def test_progress_comes_back_as_it_was(number, stages, stage, unit, pairs):
    progress = Progress(number, stages, min(stage, len(stages)), unit, tuple(pairs))
    again = Progress.from_state(progress.state())
    assert again == progress
    assert digest(again.state()) == digest(progress.state())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("stage", 7), ("stage", -1), ("unit", -1), ("stages", ["nap"]), ("a_ids", ["a"]), ("b_ids", ["b"])],
        *[("cosines", []), ("number", "one")],
    ],
)
def test_a_damaged_record_is_refused(name, value):
    values = dict(Progress(1, STAGES, 2, 3, PAIRS).state().items())
    with pytest.raises(StoreError):
        Progress.from_state(State({**values, name: value}))


@pytest.mark.parametrize("name", ["number", "stages", "stage", "unit", "a_ids", "b_ids", "cosines"])
def test_a_record_without_one_of_its_parts_is_refused(name):
    values = dict(Progress(1, STAGES, 2, 3, PAIRS).state().items())
    del values[name]
    with pytest.raises(StoreError):
        Progress.from_state(State(values))


def test_a_result_says_nothing_that_was_not_done():
    result = DeepResult(3)
    done = (result.linked, result.merged, result.pruned, result.dreams_generated, result.links_dreamt)
    assert (done, result.phi, dict(result.gone)) == ((0,) * 5, None, {})
