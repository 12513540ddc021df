"""Transfer: what few outcomes say is drawn to the kin, as far as kin are alike, and never the other way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sona.errors import InvalidValue
from sona.patterns.catalog import PatternRecord, Tally
from sona.patterns.hierarchy import Group, Hierarchy, Level, arrange
from sona.patterns.transfer import transferred
from sona.types import LearnedPattern


def record(number: int, outcomes: list[float]) -> PatternRecord:
    tally = Tally()
    for outcome in outcomes:
        tally = tally.add(outcome)
    return PatternRecord(LearnedPattern(number, np.ones(2), max(len(outcomes), 1), 1.0, tally.mean), tally)


def hierarchy_of(*groups: tuple[int, ...]) -> Hierarchy:
    everybody = tuple(sorted(one for group in groups for one in group))
    fine = Level(tuple(Group(group[0], group, len(group), 0.5) for group in groups))
    return Hierarchy((fine, Level((Group(everybody[0], everybody, len(everybody), 0.5),))))


def simulated(rng: np.random.Generator, *, between: float, within: float, outcomes: int = 4):
    """Forty groups of six patterns, and the chance of each pattern."""
    centres = np.repeat(rng.normal(0.5, between, 40), 6)
    chances = np.clip(centres + rng.normal(0.0, within, 240), 0.02, 0.98)
    records = [record(number, list((rng.random(outcomes) < p).astype(float))) for number, p in enumerate(chances)]
    return records, chances, hierarchy_of(*(tuple(range(6 * g, 6 * g + 6)) for g in range(40)))


def error(found, chances: np.ndarray) -> float:
    return float(np.mean((np.array([one.quality for one in found]) - chances) ** 2))


def test_kin_that_are_alike_help_more_than_all_together_and_strangers_do_not():
    own, together, kin = np.zeros(5), np.zeros(5), np.zeros(5)
    for seed in range(5):
        records, chances, hierarchy = simulated(np.random.default_rng(seed), between=0.25, within=0.05)
        own[seed] = np.mean((np.array([one.tally.mean for one in records]) - chances) ** 2)
        together[seed] = error(transferred(records, Hierarchy()), chances)
        kin[seed] = error(transferred(records, hierarchy), chances)
    assert (kin < 0.7 * together).all()
    assert (together < 0.9 * own).all()


def test_groups_that_do_not_differ_are_taken_for_all():
    for seed in range(5):
        records, chances, hierarchy = simulated(np.random.default_rng(seed), between=0.0, within=0.2)
        assert error(transferred(records, hierarchy), chances) < 1.1 * error(transferred(records, Hierarchy()), chances)


def test_a_balanced_case_equals_the_closed_form():
    # Four patterns of five outcomes; variances by the analysis of variance, which is what remains when all are alike.
    rows = [[0.2, 0.4, 0.3, 0.5, 0.1], [0.6, 0.8, 0.7, 0.5, 0.9], [0.4, 0.4, 0.6, 0.2, 0.4], [0.9, 0.7, 0.8, 0.8, 1.0]]
    outcomes = np.array(rows)
    noise = outcomes.var(axis=1, ddof=1).mean() / 5
    spread = outcomes.mean(axis=1).var(ddof=1) - noise
    share = spread / (spread + noise)
    expected = share * outcomes.mean(axis=1) + (1.0 - share) * outcomes.mean()
    found = transferred([record(number, row) for number, row in enumerate(rows)], Hierarchy())
    assert [one.quality for one in found] == pytest.approx(expected.tolist())
    assert [one.weight for one in found] == pytest.approx([share] * 4)
    assert [one.own for one in found] == pytest.approx(outcomes.mean(axis=1).tolist())


def test_many_outcomes_speak_for_themselves_and_none_follows_its_kin():
    rows = [[1.0, 0.0] * 500, [1.0, 1.0, 1.0, 0.0] * 250, [0.0, 0.0, 0.0, 1.0] * 250, []]
    records = [record(number, row) for number, row in enumerate(rows)]
    found = transferred(records, hierarchy_of((0, 1, 3), (2,)))
    for one in found[:3]:
        assert one.quality == pytest.approx(one.own, abs=0.01)
        assert one.weight > 0.98
    assert (found[3].weight, found[3].own) == (0.0, 0.5)
    assert found[3].quality > found[0].quality  # between its kin of .5 and .75, below no stranger of .25


def test_one_that_the_hierarchy_does_not_hold_is_drawn_to_all():
    records, _, hierarchy = simulated(np.random.default_rng(1), between=0.25, within=0.05)
    stranger = record(999, [1.0, 1.0])
    found = transferred([*records, stranger], hierarchy)[-1]
    assert 0.4 < found.quality < 1.0
    assert found.pattern_id == 999


def test_without_outcomes_nothing_is_said():
    found = transferred([record(1, []), record(2, [])], hierarchy_of((1, 2)))
    assert [(one.quality, one.weight) for one in found] == [(0.5, 0.0), (0.5, 0.0)]
    assert transferred([], Hierarchy()) == ()


def test_outcomes_that_all_agree_and_one_pattern_alone_give_finite_numbers():
    for rows in ([[1.0]], [[1.0], [0.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0] * 9, [1.0] * 9, []]):
        records = [record(number, row) for number, row in enumerate(rows)]
        for hierarchy in (Hierarchy(), hierarchy_of(tuple(range(len(rows))))):
            for one in transferred(records, hierarchy):
                assert 0.0 <= one.quality <= 1.0
                assert math.isfinite(one.weight)


def test_the_order_of_records_does_not_matter():
    records, _, _ = simulated(np.random.default_rng(2), between=0.2, within=0.1)
    hierarchy = arrange([one.pattern for one in records])
    there, back = transferred(records, hierarchy), transferred(records[::-1], hierarchy)[::-1]
    assert [one.quality for one in there] == pytest.approx([one.quality for one in back], abs=1e-9)


def test_a_pattern_twice_is_refused():
    with pytest.raises(InvalidValue):
        transferred([record(1, [0.5]), record(1, [0.5])], Hierarchy())
