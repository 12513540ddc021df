import numpy as np
import pytest

from sona.config.tuner import DagConfig
from sona.errors import InvalidValue, StoreError
from sona.state import State, digest
from sona.tuner.dag.selector import TYPES, AttentionSelector
from sona.tuner.execution import AttentionType

GREEDY = DagConfig(epsilon=0.0)


def taught(selector, pattern, best, rounds=300, seed=0):
    # One type earns .9 and the others .4 on average.
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        chosen = selector.select(pattern, rng)
        selector.update(pattern, chosen, float(rng.random() < (0.9 if chosen is best else 0.4)))
    return selector


def test_an_unknown_pattern_has_the_default():
    selector = AttentionSelector(GREEDY)
    assert selector.select("p", np.random.default_rng(0)) is AttentionType.TOPOLOGICAL
    assert selector.best("p") is AttentionType.TOPOLOGICAL
    assert (len(selector), "p" in selector) == (0, False)


def test_every_pattern_learns_its_own_type():
    selector = AttentionSelector(GREEDY)
    for pattern, best in (("a", AttentionType.PARALLEL_BRANCH), ("b", AttentionType.TEMPORAL_BTSP)):
        taught(selector, pattern, best)
        assert selector.best(pattern) is best
        assert selector.select(pattern, np.random.default_rng(0)) is best
    assert selector.best("a") is AttentionType.PARALLEL_BRANCH


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0])
def test_a_share_of_choices_is_at_random(epsilon):
    selector, rng = taught(AttentionSelector(GREEDY), "p", AttentionType.CAUSAL_CONE), np.random.default_rng(0)
    loose = AttentionSelector.from_state(selector.state(), DagConfig(epsilon=epsilon))
    counts = dict.fromkeys(TYPES, 0)
    for _ in range(4000):
        counts[loose.select("p", rng)] += 1
    for one, count in counts.items():
        expected = epsilon / len(TYPES) + (1.0 - epsilon if one is AttentionType.CAUSAL_CONE else 0.0)
        assert count / 4000 == pytest.approx(expected, abs=0.03)


def test_choosing_changes_nothing_and_the_same_draws_choose_the_same():
    selector = taught(AttentionSelector(), "p", AttentionType.CAUSAL_CONE)
    before = digest(selector.state())
    chosen = [[selector.select("p", rng) for _ in range(50)] for rng in map(np.random.default_rng, (3, 3))]
    assert chosen[0] == chosen[1]
    assert digest(selector.state()) == before


def test_a_wider_bound_looks_more_often_at_others():
    def pulls(width):
        selector = taught(AttentionSelector(DagConfig(epsilon=0.0, ucb_c=width)), "p", AttentionType.CAUSAL_CONE, 500)
        return selector.state().wholes("counts", 1, len(TYPES))[0, TYPES.index(AttentionType.CAUSAL_CONE)]

    assert pulls(0.5) > pulls(1.4) > pulls(5.0)


def test_the_pattern_updated_longest_ago_goes_first():
    selector = AttentionSelector(DagConfig(capacity=2))
    for pattern in ("a", "b", "a", "c"):
        selector.update(pattern, AttentionType.TOPOLOGICAL, 1.0)
    assert ["a" in selector, "b" in selector, "c" in selector] == [True, False, True]
    selector.forget("a")
    selector.forget("never there")
    assert len(selector) == 1


@pytest.mark.parametrize(
    ("pattern", "attention_type", "reward"), [("", "topological", 1.0), ("p", "other", 1.0), ("p", "topological", 1.5)]
)
def test_a_bad_update_changes_nothing(pattern, attention_type, reward):
    selector = AttentionSelector()
    with pytest.raises(InvalidValue):
        selector.update(pattern, attention_type, reward)
    assert len(selector) == 0


def test_a_pattern_without_a_name_is_refused():
    with pytest.raises(InvalidValue, match="pattern"):
        AttentionSelector().select(" ", np.random.default_rng(0))


@pytest.mark.parametrize("patterns", [[], ["a"], ["b", "a", "c"]])
def test_it_comes_back_bit_for_bit_and_goes_on_alike(patterns):
    selector = AttentionSelector()
    for number, pattern in enumerate(patterns):
        taught(selector, pattern, TYPES[number + 1], 40, seed=number)
    again = AttentionSelector.from_state(selector.state())
    assert digest(again.state()) == digest(selector.state())
    for one in (selector, again):
        taught(one, "a", AttentionType.TEMPORAL_BTSP, 50, seed=9)
    assert digest(again.state()) == digest(selector.state())


@pytest.mark.parametrize(
    "damage",
    [
        {"types": ["topological"]},
        {"patterns": ["a", "a"]},
        {"patterns": ["a", ""]},
        {"patterns": ["a"]},
        {"counts": np.zeros((2, 7))},
        {"counts": np.full((2, 7), -1)},
        {"sums": np.ones((2, 7))},
    ],
)
def test_a_damaged_state_is_refused(damage):
    zeros = np.zeros((2, 7))
    whole = {"types": list(map(str, TYPES)), "patterns": ["a", "b"], "counts": np.zeros((2, 7), np.int64)}
    whole |= {"sums": zeros, "squares": zeros}
    assert len(AttentionSelector.from_state(State(whole))) == 2
    with pytest.raises(StoreError):
        AttentionSelector.from_state(State({**whole, **damage}))
    with pytest.raises(StoreError, match="more than 1"):
        AttentionSelector.from_state(State(whole), DagConfig(capacity=1))
