import pytest

from sona.errors import StoreError
from sona.state import State, digest
from sona.tuner.choosing.wants import Trial, Want, Wants


def wants(**scores):
    made = Wants()
    for key, score in scores.items():
        made.put(key, Want((1, 2), None if score is None else Trial("arm", 1.0, 2.0, score)))
    return made


def always(key):
    return True


def test_the_best_is_that_with_the_greatest_score():
    made = wants(a=1.0, b=3.0, c=2.0, d=None)
    assert made.best(always).score == 3.0
    made.put("b", Want((1, 3), Trial("arm", 1.0, 2.0, 0.5)))
    assert made.best(always).score == 2.0
    made.put("c", Want((1, 3), None))
    assert made.best(always).score == 1.0
    made.forget("a")
    assert made.best(always).score == 0.5
    made.clear()
    assert (made.best(always), len(made)) == (None, 0)
    assert wants(a=None).best(always) is None


def test_what_is_not_awaited_is_forgotten():
    made = wants(a=1.0, b=3.0, c=2.0)
    assert made.best(lambda key: key != "b").score == 2.0
    assert "b" not in made
    assert made.best(always).score == 2.0
    assert made.best(lambda key: False) is None


def test_it_agrees_with_looking_at_all_of_them():
    import random

    rng, made, kept = random.Random(3), Wants(), {}
    for _ in range(2000):
        key = f"k{rng.randrange(12)}"
        if rng.random() < 0.2:
            made.forget(key)
            kept.pop(key, None)
        else:
            kept[key] = rng.choice([None, rng.random()])
            made.put(key, Want((0, 0), None if kept[key] is None else Trial("arm", 1.0, 1.0, kept[key])))
        best = made.best(always)
        assert (None if best is None else best.score) == max((s for s in kept.values() if s is not None), default=None)
    assert len(made) == len(kept)


def test_it_comes_back_bit_for_bit():
    made = wants(a=1.0, b=3.5, c=None)
    again = Wants.from_state(made.state())
    assert digest(again.state()) == digest(made.state())
    assert (again.get("b"), again.arms, again.best(always)) == (made.get("b"), {"arm"}, made.best(always))


@pytest.mark.parametrize(
    "rows", [[["a"]], [["a", 1, 2, "arm"]], [["a", "x", 2]], [3], 7, [["a", 1, 2, "arm", 1.0, "y", 2.0]]]
)
def test_damage_is_refused(rows):
    with pytest.raises(StoreError):
        Wants.from_state(State({"wants": rows, "best": ""}))
