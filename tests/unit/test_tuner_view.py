import numpy as np
import pytest

from sona.errors import InvalidValue
from sona.tuner.plans.view import PlanView


def test_what_is_not_given_has_its_default():
    view = PlanView.of([[], [0]], [1, 2])
    assert (view.inputs, view.before, view.order) == (((), (0,)), ((), (0,)), (0, 1))
    assert view.rows.tolist() == [1, 1]
    assert view.costs.dtype == np.float64
    assert len(view) == 2


def test_consumers_are_the_inputs_the_other_way():
    assert PlanView.of([[], [0], [0], [1, 2]], np.ones(4)).consumers() == ((1, 2), (3,), (3,), ())


def test_what_runs_after_what_may_differ_from_what_is_read():
    assert PlanView.of([[], [], [0, 1]], np.ones(3), before=[[1], [], [0]]).before == ((1,), (), (0,))


@pytest.mark.parametrize(
    ("inputs", "costs", "beside", "words"),
    [
        ([], [], {}, "at least one"),
        ([[]], [1, 2], {}, "costs"),
        ([[]], [-1], {}, "costs"),
        ([[]], [np.nan], {}, "costs"),
        ([[]], [np.inf], {}, "costs"),
        ([[]], [1], {"rows": [1, 2]}, "rows"),
        ([[]], [1], {"rows": [-1]}, "rows"),
        ([[]], [1], {"before": [[], []]}, "before"),
        ([[], []], [1, 1], {"before": [[1], [0]]}, "cycle"),
        ([[1], [0]], [1, 1], {}, "cycle"),
        ([[3]], [1], {}, "from 0 to 0"),
    ],
)
def test_bad_input_is_refused(inputs, costs, beside, words):
    with pytest.raises(InvalidValue, match=words):
        PlanView.of(inputs, costs, **beside)
