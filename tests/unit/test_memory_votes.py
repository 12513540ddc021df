"""VoteMemory: what past requests took, pooled over the nearest of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.config import VoteConfig
from sona.errors import DimensionMismatch, InvalidValue, StateError, StoreError
from sona.memory.votes import Showing, VoteCheckpoint, VoteMemory, unit
from sona.state import State, digest

EDGES = (0.3, 0.5, 0.65, 0.8, 0.9)
EAST = np.array([1.0, 0.0], np.float32)
NORTH = np.array([0.0, 1.0], np.float32)


def at(degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    return np.array([math.cos(angle), math.sin(angle)], np.float32)


def as_written(votes: VoteMemory) -> dict[str, object]:
    plain = {np.ndarray: lambda value: value.tolist(), State: digest}
    return {name: plain.get(type(value), lambda it: it)(value) for name, value in votes.state().items()}


def by_hand(past, query, config):
    """Pool the evidence without the class: `past` is a list of (vector, {item: (taken, passed)}, visits)."""
    similar = [(float(unit(v) @ unit(query)), row) for row, (v, _, _) in enumerate(past)]
    sums: dict[str, np.ndarray] = {}
    for similarity, row in sorted(similar, reverse=True)[: config.neighbours]:
        if similarity < config.similarity_edges[0]:
            continue
        same = similarity >= config.same_similarity
        column = 0 if same else sum(similarity >= edge for edge in config.similarity_edges)
        for item, pair in past[row][1].items():
            cell = sums.setdefault(item, np.zeros((2, 1 + len(config.similarity_edges))))
            cell[:, column] += np.array(pair) / (1 if same else past[row][2])
    return sums


def test_a_memory_without_neighbours_is_neutral():
    votes = VoteMemory(2)
    assert votes.look_up(EAST).items == ()
    votes.record(EAST, [Showing("a", 1.0)])
    nothing = votes.look_up(NORTH)
    assert nothing.items == ()
    assert not nothing.is_known
    taken, passed = nothing.rows(["a", "b"])
    assert not taken.any()
    assert not passed.any()
    assert taken.shape == (2, votes.bin_count)


@pytest.mark.parametrize("neighbours", [3, 50])
def test_evidence_is_what_pooling_by_hand_gives(neighbours):
    rng = np.random.default_rng(neighbours)
    config = VoteConfig(neighbours=neighbours)
    votes, past = VoteMemory(5, config), []
    for number in range(40):
        request = rng.normal(size=5).astype(np.float32)
        shown = [Showing(f"i{number % 7}", 0.25), Showing("common", 1.0, 0.5), Showing("passed", 0.0, 0.5)]
        visits = 1 + number % 3
        for _ in range(visits):
            votes.record(request, shown)
        sums = {f"i{number % 7}": (0.25, 0.75), "common": (1.0, 0.0), "passed": (0.0, 0.5)}
        past.append((request, {item: (t * visits, p * visits) for item, (t, p) in sums.items()}, visits))
    assert len(votes) == 40
    near = [past[row][0] + noise * rng.normal(size=5).astype(np.float32) for row in range(20) for noise in (0.0, 0.3)]
    for query in near:
        evidence, expected = votes.look_up(query), by_hand(past, query, config)
        assert set(evidence.items) == set(expected)
        for item, row in zip(evidence.items, range(len(evidence.items)), strict=True):
            np.testing.assert_allclose(evidence.taken[row], expected[item][0], atol=1e-5)
            np.testing.assert_allclose(evidence.passed[row], expected[item][1], atol=1e-5)


def test_similarity_decides_the_bin():
    votes = VoteMemory(2)
    votes.record(EAST, [Showing("a", 1.0)])
    for degrees, column in ((3.0, 0), (20.0, 5), (30.0, 4), (45.0, 3), (55.0, 2), (70.0, 1)):
        assert np.flatnonzero(votes.look_up(at(degrees)).taken[0]).tolist() == [column]
    assert votes.look_up(at(75.0)).items == ()


def test_a_request_asked_again_adds_to_its_own_record_and_a_neighbour_speaks_for_one_visit():
    votes = VoteMemory(2)
    for scale in (1.0, 5.0, 0.1):
        votes.record(scale * EAST, [Showing("a", 1.0), Showing("b", 0.0, 0.5)])
    assert len(votes) == 1
    same, near = votes.look_up(EAST), votes.look_up(at(20.0))
    assert same.is_known
    assert not near.is_known
    assert same.rows(["a", "b"])[0][:, 0].tolist() == [3.0, 0.0]
    assert same.rows(["a", "b"])[1][:, 0].tolist() == [0.0, 1.5]
    assert near.rows(["a"])[0].sum() == 1.0


def test_the_oldest_request_makes_room():
    votes = VoteMemory(2, VoteConfig(capacity=3))
    for number in range(5):
        votes.record(at(18.0 * number), [Showing(f"i{number}", 1.0)])
    assert (len(votes), votes.evicted_count) == (3, 2)
    known = [votes.look_up(at(18.0 * number)).is_known for number in range(5)]
    assert known == [False, False, True, True, True]
    votes.record(at(18.0 * 4), [Showing("again", 1.0)])
    assert (len(votes), votes.evicted_count) == (3, 2)
    assert set(votes.look_up(at(72.0)).items) >= {"i4", "again"}


def test_what_is_withdrawn_leaves_the_memory_as_if_it_had_never_come():
    votes, never = VoteMemory(2), VoteMemory(2)
    for memory in (votes, never):
        memory.record(EAST, [Showing("a", 1.0), Showing("b", 0.0)])
    receipt = votes.record(EAST, [Showing("a", 0.3), Showing("c", 0.7, 0.1)])
    assert votes.withdraw(receipt)
    left, wanted = votes.look_up(EAST), never.look_up(EAST)
    assert left.items == wanted.items
    np.testing.assert_allclose(left.taken, wanted.taken, atol=1e-6)
    np.testing.assert_allclose(left.passed, wanted.passed, atol=1e-6)


@pytest.mark.parametrize("visits", [0, 1, 2])
def test_an_amended_showing_ends_where_the_last_word_alone_would_have(visits):
    amended, alone = VoteMemory(2), VoteMemory(2)
    for votes in (amended, alone):
        for _ in range(visits):
            votes.record(EAST, [Showing("a", 0.5)])
    first = amended.record(EAST, [Showing("a", 1.0), Showing("b", 0.0, 0.5)])
    amended.withdraw(first)
    for votes in (amended, alone):
        votes.record(EAST, [Showing("a", 0.0), Showing("b", 1.0, 0.5)])
    assert as_written(amended) == as_written(alone)  # numbers chosen so that float rounding plays no part
    assert amended.look_up(at(20.0)).taken.tolist() == alone.look_up(at(20.0)).taken.tolist()


def test_a_receipt_outlives_its_request_harmlessly():
    votes = VoteMemory(2, VoteConfig(capacity=1))
    receipt = votes.record(EAST, [Showing("a", 1.0)])
    votes.record(NORTH, [Showing("b", 1.0)])
    before = digest(votes.state())
    assert not votes.withdraw(receipt)
    assert digest(votes.state()) == before


def test_withdrawing_more_than_is_left_never_goes_below_nothing():
    votes = VoteMemory(2)
    receipt = votes.record(EAST, [Showing("a", 0.7), Showing("b", 0.1, 0.3)])
    votes.withdraw(receipt)
    votes.withdraw(receipt)
    assert votes.look_up(EAST).items == ()
    votes.record(EAST, [Showing("a", 1.0)])
    assert votes.look_up(at(20.0)).taken.max() == 1.0


def test_the_latest_opinion_of_a_subject_counts_once_however_often_it_is_given():
    often, once = VoteMemory(2), VoteMemory(2)
    for reward in (1.0, 0.0, 0.25, 1.0, 0.5):
        often.record(EAST, [Showing("a", reward), Showing("b", 1.0 - reward, 0.5)], subject="u1")
    once.record(EAST, [Showing("a", 0.5), Showing("b", 0.5, 0.5)], subject="u1")
    for votes in (often, once):
        votes.record(EAST, [Showing("a", 1.0)], subject="u2")
        votes.record(EAST, [Showing("a", 1.0)])
        votes.record(NORTH, [Showing("a", 1.0)], subject="u1")
    for x in (EAST, at(1.0), at(20.0), NORTH):
        assert often.look_up(x).items == once.look_up(x).items
        assert often.look_up(x).taken.tolist() == once.look_up(x).taken.tolist()
        assert often.look_up(x).passed.tolist() == once.look_up(x).passed.tolist()
    assert once.look_up(EAST).rows(["a"])[0][0, 0] == 2.5


def test_without_a_subject_every_outcome_counts():
    votes = VoteMemory(2)
    receipts = [votes.record(EAST, [Showing("a", 1.0)]) for _ in range(3)]
    assert votes.look_up(EAST).taken[0, 0] == 3.0
    assert receipts[0] == receipts[2]
    assert votes.state().child("opinions").whole("next_serial") == 0


def test_an_opinion_that_was_replaced_cannot_be_withdrawn_and_the_latest_can_once():
    votes = VoteMemory(2)
    first = votes.record(EAST, [Showing("a", 1.0)], subject="u1")
    same_again = votes.record(EAST, [Showing("a", 1.0)], subject="u1")
    before = digest(votes.state())
    assert not votes.withdraw(first)
    assert digest(votes.state()) == before
    assert votes.withdraw(same_again)
    assert votes.look_up(EAST).items == ()
    assert not votes.withdraw(same_again)
    votes.record(EAST, [Showing("a", 0.5)], subject="u1")
    assert votes.look_up(EAST).taken[0, 0] == 0.5
    assert votes.look_up(at(20.0)).taken.max() == 0.5


def test_receipts_hold_across_a_restart():
    votes = VoteMemory(2)
    first = votes.record(EAST, [Showing("a", 1.0)], subject="u1")
    last = votes.record(EAST, [Showing("b", 1.0)], subject="u1")
    other = votes.record(EAST, [Showing("b", 1.0)], subject="u2")
    again = VoteMemory.from_state(votes.state())
    assert [again.withdraw(receipt) for receipt in (first, last, other, other)] == [False, True, True, False]
    assert again.look_up(EAST).items == ()


def test_one_subject_never_counts_twice_however_it_goes_about_it():
    votes = VoteMemory(2, VoteConfig(capacity=4))
    for number in range(500):
        votes.record(at(12.0 * (number * number % 7)), [Showing("a", 1.0)], subject="u1")
        assert votes.state().wholes("visits", None).max() == 1


def test_opinions_are_forgotten_beyond_their_bound_and_their_votes_stay():
    votes = VoteMemory(2, VoteConfig(capacity=3))
    receipts = [votes.record(EAST, [Showing("a", 1.0)], subject=f"u{number}") for number in range(9)]
    assert votes.state().child("opinions").texts("subjects") == [f"u{number}" for number in range(3, 9)]
    assert votes.look_up(EAST).taken[0, 0] == 9.0
    assert not votes.withdraw(receipts[0])
    assert votes.withdraw(receipts[3])
    assert votes.look_up(EAST).taken[0, 0] == 8.0


def filled(votes: VoteMemory, numbers) -> VoteMemory:
    for number in numbers:
        subject = f"u{number % 5}" if number % 3 else None
        x = np.array([math.cos(number), math.sin(number), math.cos(3 * number)], np.float32)
        votes.record(x, [Showing(f"i{number % 7}", 0.25 * (number % 5)), Showing("b", 0.0, 0.5)], subject=subject)
    return votes


COUNTERS = ("next_number", "evicted")


def without_counters(votes: VoteMemory) -> list[str]:
    values = dict(votes.state().items())
    opinions = {name: value for name, value in values["opinions"].items() if name != "next_serial"}
    return [digest(State({**{n: v for n, v in values.items() if n not in COUNTERS}, "opinions": State(opinions)}))]


@pytest.mark.parametrize("capacity", [20, 10_000])
def test_restoring_what_was_just_kept_changes_nothing(capacity):
    votes = filled(VoteMemory(3, VoteConfig(capacity=capacity)), range(50))
    before = digest(votes.state())
    votes.restore(votes.checkpoint())
    assert digest(votes.state()) == before


@pytest.mark.parametrize("is_saved", [False, True])
@pytest.mark.parametrize(("capacity", "first"), [(20, 7), (20, 50), (500, 50), (10_000, 50)])
def test_a_restored_memory_is_that_of_the_checkpoint_but_for_its_counters(capacity, first, is_saved):
    config = VoteConfig(capacity=capacity)
    votes = filled(VoteMemory(3, config), range(first))
    kept, before, evidence = votes.checkpoint(), without_counters(votes), votes.look_up([1.0, 0.0, 0.0])
    if is_saved:
        kept = VoteCheckpoint.from_state(kept.state())
    as_kept = digest(kept.state())
    filled(votes, range(first, first + 1_000))
    numbers = votes.state().whole("next_number"), votes.evicted_count
    votes.restore(kept)
    assert without_counters(votes) == before
    assert (votes.look_up([1.0, 0.0, 0.0]).taken == evidence.taken).all()
    assert (votes.state().whole("next_number") >= numbers[0], votes.evicted_count) == (True, numbers[1])
    again = filled(VoteMemory(3, config), range(first))
    assert (filled(votes, range(2_000, 2_030)).requests == filled(again, range(2_000, 2_030)).requests).all()
    assert digest(kept.state()) == as_kept
    assert digest(VoteMemory.from_state(votes.state(), config).state()) == digest(votes.state())


def test_receipts_of_what_came_since_a_checkpoint_name_nothing_once_it_is_restored():
    votes = VoteMemory(2, VoteConfig(capacity=4))
    old = [votes.record(EAST, [Showing("a", 1.0)], subject="u1"), votes.record(EAST, [Showing("a", 1.0)])]
    kept = votes.checkpoint()
    since = [
        votes.record(EAST, [Showing("a", 1.0)], subject="u1"),
        votes.record(EAST, [Showing("a", 1.0)], subject="u2"),
        votes.record(NORTH, [Showing("b", 1.0)]),
        votes.record(at(45.0), [Showing("b", 1.0)], subject="u1"),
    ]
    votes.restore(kept)
    votes.record(at(50.0), [Showing("c", 1.0)])
    votes.record(-EAST, [Showing("c", 1.0)], subject="u1")
    votes.record(EAST, [Showing("a", 1.0)], subject="u3")
    assert [votes.withdraw(receipt) for receipt in since] == [False] * 4
    assert votes.look_up(EAST).rows(["a"])[0][0, 0] == 3.0
    assert [votes.withdraw(receipt) for receipt in old] == [True, True]
    assert votes.look_up(at(50.0)).rows(["c"])[0][0, 0] == 1.0


def test_a_checkpoint_shares_its_records():
    votes = filled(VoteMemory(3), range(9))
    kept = votes.checkpoint()
    assert all(one is other for one, other in zip(kept.records, votes.checkpoint().records, strict=True))


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing():
    votes = filled(VoteMemory(3, VoteConfig(capacity=20)), range(50))
    before = digest(votes.state())
    with pytest.raises(DimensionMismatch):
        votes.restore(VoteMemory(2).checkpoint())
    with pytest.raises(StateError, match="capacity"):
        votes.restore(filled(VoteMemory(3, VoteConfig(capacity=15)), range(50)).checkpoint())
    assert digest(votes.state()) == before


def test_requests_with_words_move_into_a_new_space_with_what_they_took():
    votes = VoteMemory(2)
    votes.record(EAST, [Showing("a", 1.0)], text="east")
    votes.record(NORTH, [Showing("b", 1.0)])
    assert votes.re_embed(lambda texts: -np.stack([EAST for _ in texts])) == 1
    assert votes.look_up(-EAST).items == ("a",)
    assert votes.look_up(EAST).items == ()
    assert votes.look_up(NORTH).items == ("b",)
    assert VoteMemory(2).re_embed(lambda texts: np.zeros((0, 2), np.float32)) == 0


@pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.float32), np.zeros((1, 3), np.float32), [[np.nan, 0.0]]])
def test_a_broken_new_space_changes_nothing(wrong):
    votes = VoteMemory(2)
    votes.record(EAST, [Showing("a", 1.0)], text="east")
    before = digest(votes.state())
    with pytest.raises(InvalidValue):
        votes.re_embed(lambda texts: wrong)
    assert digest(votes.state()) == before


@pytest.mark.parametrize(
    ("request_vector", "showing", "error"),
    [
        ([1.0, 0.0, 0.0], Showing("a", 1.0), DimensionMismatch),
        ([math.nan, 0.0], Showing("a", 1.0), InvalidValue),
        ([math.inf, 0.0], Showing("a", 1.0), InvalidValue),
        ([1.0, 0.0], Showing("a", 1.5), InvalidValue),
        ([1.0, 0.0], Showing("a", -0.1), InvalidValue),
        ([1.0, 0.0], Showing("a", math.nan), InvalidValue),
        ([1.0, 0.0], Showing("a", 1.0, 2.0), InvalidValue),
        (["x", "y"], Showing("a", 1.0), InvalidValue),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(request_vector, showing, error):
    votes = VoteMemory(2)
    votes.record(EAST, [Showing("a", 1.0)])
    before = digest(votes.state())
    with pytest.raises(error):
        votes.record(request_vector, [Showing("b", 1.0), showing])
    assert digest(votes.state()) == before
    with pytest.raises(InvalidValue):
        votes.record(EAST, [Showing("b", 1.0)], subject=7)
    assert digest(votes.state()) == before
    if showing == Showing("a", 1.0):
        with pytest.raises(error):
            votes.look_up(request_vector)


def test_a_zero_request_has_no_neighbours_and_one_record():
    votes = VoteMemory(2)
    zero = np.zeros(2, np.float32)
    votes.record(EAST, [Showing("a", 1.0)])
    votes.record(zero, [Showing("b", 1.0)])
    votes.record(zero, [Showing("b", 1.0)])
    assert len(votes) == 2
    assert votes.look_up(zero).items == ()
    assert votes.look_up(EAST).items == ("a",)


def test_a_state_beyond_the_capacity_or_with_parts_that_do_not_add_up_is_refused():
    votes = VoteMemory(2)
    votes.record(EAST, [Showing("a", 1.0)])
    votes.record(NORTH, [Showing("b", 1.0)])
    with pytest.raises(StoreError, match="capacity"):
        VoteMemory.from_state(votes.state(), VoteConfig(capacity=1))
    values = dict(votes.state().items())
    with pytest.raises(StoreError, match="add up"):
        VoteMemory.from_state(State({**values, "sizes": np.array([1, 2], np.int64)}))


def test_the_remembered_requests_are_a_copy():
    votes = VoteMemory(2)
    votes.record(3.0 * EAST, [Showing("a", 1.0)])
    np.testing.assert_allclose(votes.requests, [[1.0, 0.0]])
    votes.requests[:] = 9.0
    np.testing.assert_allclose(votes.requests, [[1.0, 0.0]])


def test_unit_scales_rows_and_leaves_zero_alone():
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]], np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]], rtol=1e-5)
    np.testing.assert_allclose(unit(rows[0]), [0.6, 0.8], rtol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_what_was_looked_up_before_does_not_change_what_is_recorded(steps):
    config = VoteConfig(capacity=3)
    asking, silent = VoteMemory(2, config), VoteMemory(2, config)
    for looked, recorded in steps:
        asking.look_up(at(10.0 * looked))
        for votes in (asking, silent):
            votes.record(at(10.0 * recorded), [Showing("a", 1.0)])
    assert digest(asking.state()) == digest(silent.state())
