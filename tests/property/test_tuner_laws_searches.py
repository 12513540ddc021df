"""Laws of searches: recall is a bound that no choice breaks, nothing learned is lost, and time is kept to."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.config import VectorConfig
from sona.state import digest
from sona.tuner.searches.arms import EXACT, OWN, search_arms
from sona.tuner.searches.belief import believe
from sona.tuner.searches.checks import ArmRun, CheckLog, Kind, SearchCheck, SearchKey
from sona.tuner.searches.fit import Surveyed, fit
from sona.tuner.searches.policy import SearchPolicy

ARMS = search_arms("hnsw")
NAMES = tuple(arm.name for arm in ARMS)
TARGET = VectorConfig().recall_target

shares = st.integers(0, 10).map(lambda hits: hits / 10.0)
keys = st.builds(
    SearchKey,
    st.sampled_from(["a", "b c"]),
    st.sampled_from(["", "x", "y"]),
    st.sampled_from([None, 1, 10]),
    st.none() | st.floats(0.0, 1e6),
    st.none() | st.floats(-14.0, 6.0),
    st.sampled_from(["hnsw", "ivfflat", ""]),
)
events = st.lists(st.tuples(keys, shares, st.floats(1e-5, 1.0), st.floats(1e-5, 10.0)), max_size=60)


def replayed(policy: SearchPolicy, happened, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for key, recall, time_s, exact_s in happened:
        choice = policy.choose(key, rng)
        policy.observe(key, choice.arm, time_s)
        if choice.is_check:
            runs = tuple(ArmRun(arm.name, recall, 10, time_s) for arm in policy.arms_to_check(key))
            policy.learn(key, SearchCheck(10, exact_s, runs))


@given(events, keys, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_what_is_chosen_is_the_servers_own_or_exact_or_known_to_find_enough(happened, key, seed):
    policy = SearchPolicy()
    replayed(policy, happened, seed)
    choice = policy.choose(key, np.random.default_rng(seed))
    if choice.arm in (OWN, EXACT):
        return
    found = [run for other, *run in happened if other.fingerprint == key.fingerprint]
    assert found, "an arm was admitted that was never measured"
    assert any(recall >= TARGET for recall, *_ in found)


@given(events, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_arm_that_was_bad_each_time_is_left_or_not_known(happened, seed):
    policy = SearchPolicy()
    replayed(policy, [(key, min(recall, 0.9), *times) for key, recall, *times in happened], seed)
    for pattern in policy.report():
        assert pattern.arm in (OWN, EXACT)
        assert pattern.arm == EXACT or pattern.checks < VectorConfig().first_checks


@given(events, events, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_a_saved_policy_goes_on_as_the_one_that_was_saved(before, after, seed):
    policy = SearchPolicy()
    replayed(policy, before, seed)
    again = SearchPolicy.from_state(policy.state())
    assert digest(again.state()) == digest(policy.state())
    for one in (policy, again):
        replayed(one, after, seed)
    assert digest(again.state()) == digest(policy.state())


@given(events, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_search_is_counted_once(happened, seed):
    policy = SearchPolicy()
    replayed(policy, happened, seed)
    assert sum(one.searches for one in policy.report()) == sum(bool(key.index_kind) for key, *_ in happened)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(0, 2), shares), max_size=40),
    st.floats(1.0, 200.0),
)
@settings(max_examples=80, deadline=None)
def test_a_belief_lies_within_what_was_seen_and_what_was_believed_before(found, half_life):
    log = CheckLog(NAMES, 1000)
    for fit_class, size, value, recall in found:
        log.add(Kind(fit_class, size, value), SearchCheck(10, 0.01, (ArmRun("default", recall, 10, 0.001),)))
    belief = believe(log, Kind(0, 0, 0), half_life)
    seen = [recall for *_, recall in found]
    low, high = min([0.5, *seen]), max([0.5, *seen])
    assert low - 1e-9 <= belief.recall[0] <= high + 1e-9
    assert (belief.recall_sd >= 0.0).all()
    assert np.isfinite(belief.time_s[0]) == bool(found)


@given(st.integers(0, 1000), st.integers(1, 100), st.floats(1.0, 1e6), st.floats(1.0, 1e3))
@settings(max_examples=80, deadline=None)
def test_fewer_rows_that_lie_alike_fit_worse(seed, limit, rows, times):
    rng = np.random.default_rng(seed)
    mean, variance, query = rng.normal(size=4), rng.random(4) + 0.1, rng.normal(size=4)
    table = Surveyed(rows * times, mean, variance)
    few, many = (Surveyed(count, mean, variance) for count in (rows, rows * times))
    fits = [fit(query, filtered, table, limit=limit) for filtered in (few, many)]
    assert fits[0] <= fits[1] + 1e-6
