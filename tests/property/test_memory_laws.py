"""Laws of the vote memory, over whatever order of outcomes, amendments and restarts hypothesis thinks of."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sona.config import VoteConfig
from sona.memory.votes import Receipt, Showing, VoteMemory
from sona.state import digest

D = 4
REQUESTS = np.eye(D, dtype=np.float32)
ITEMS = ("a", "b", "c")

quarters = st.sampled_from([0.0, 0.25, 0.5, 1.0])  # sums of these are exact
shown = st.lists(st.tuples(st.sampled_from(ITEMS), quarters, quarters), min_size=1, max_size=3)
outcomes = st.tuples(st.integers(0, D - 1), shown, st.sampled_from([None, "u1", "u2", "u3"]))
histories = st.lists(outcomes | st.integers(0, 30) | st.just("restart"), max_size=40)


class History:
    """A vote memory, and beside it the outcomes that should count."""

    def __init__(self, capacity: int = 100) -> None:
        self.config = VoteConfig(capacity=capacity)
        self.votes = VoteMemory(D, self.config)
        self.receipts: list[Receipt] = []
        self.counting: dict[int, tuple[int, str | None, tuple[Showing, ...]]] = {}  # by receipt

    def goes_on(self, event) -> None:
        if event == "restart":
            self.votes = VoteMemory.from_state(self.votes.state(), self.config)
        elif isinstance(event, int):
            if event < len(self.receipts):
                assert self.votes.withdraw(self.receipts[event]) == (event in self.counting)
                self.counting.pop(event, None)
        else:
            request, entries, subject = event
            showings = tuple(Showing(*entry) for entry in entries)
            held = {key: entry[:2] for key, entry in self.counting.items()}
            for key, (other, who) in held.items():
                if subject is not None and (other, who) == (request, subject):
                    del self.counting[key]
            self.counting[len(self.receipts)] = request, subject, showings
            self.receipts.append(self.votes.record(REQUESTS[request], showings, subject=subject))


@settings(max_examples=150, deadline=None)
@given(histories)
def test_what_counts_is_every_outcome_of_nobody_and_the_latest_of_each_subject(events):
    history = History()
    seen = set()  # a receipt of nobody that was withdrawn once may not be withdrawn again
    for event in events:
        if isinstance(event, int) and (event in seen or event >= len(history.receipts)):
            continue
        seen |= {event} if isinstance(event, int) else set()
        history.goes_on(event)
    for request in range(D):
        wanted = np.zeros((2, len(ITEMS)))
        for other, _, showings in history.counting.values():
            for showing in showings if other == request else ():
                wanted[0, ITEMS.index(showing.item)] += showing.reward
                wanted[1, ITEMS.index(showing.item)] += (1.0 - showing.reward) * showing.examined
        taken, passed = history.votes.look_up(REQUESTS[request]).rows(ITEMS)
        np.testing.assert_allclose([taken[:, 0], passed[:, 0]], wanted, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(histories, st.integers(1, 3))
def test_a_memory_comes_back_bit_for_bit_at_any_time(events, capacity):
    history = History(capacity)
    for event in events:
        if isinstance(event, tuple):
            history.goes_on(event)
            again = VoteMemory.from_state(history.votes.state(), history.config)
            assert digest(again.state()) == digest(history.votes.state())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), shown), max_size=60), st.integers(1, 4))
def test_nobody_counts_twice_in_a_record_by_what_he_does_alone(events, capacity):
    votes = VoteMemory(8, VoteConfig(capacity=capacity))
    for request, entries in events:
        votes.record(np.eye(8, dtype=np.float32)[request], [Showing(*entry) for entry in entries], subject="u1")
    assert votes.state().wholes("visits", None).max(initial=0) <= 1
