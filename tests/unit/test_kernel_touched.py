"""What is found again is told with one access more, compiled and in numpy alike."""

from dataclasses import dataclass

import pytest
from kernel_calls import both

from sona import kernel


@dataclass(frozen=True, slots=True)
class Thing:
    id: int
    name: str
    last: float
    count: int


@dataclass(frozen=True, slots=True)
class Kept:
    pattern: Thing
    tally: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Found:
    thing: Thing
    cosine: float
    confidence: float


def shapes(made):
    change = made.maker(Thing, ("id", "name", "last", "count"), 2)
    return (
        change,
        made.maker(Found, ("thing", "cosine", "confidence")),
        made.maker(Kept, ("pattern", "tally", "confidence")),
    )


def kept() -> tuple[list[Kept], list[tuple[int, float]]]:
    records = [Kept(Thing(10 * row, str(row), 0.0, 0), "-", 0.1 * row) for row in range(4)]
    return records, [(row, 5.0 * row) for row in range(4)]


@both
@pytest.mark.parametrize("counts", [True, False])
def test_each_of_what_was_found_has_one_access_more(made, counts):
    records, accesses = kept()
    before = list(accesses)
    matches, ids = made.touched(*shapes(made), records, accesses, [3, 0], [0.5, -0.25], 7.0, counts)
    assert matches == [
        Found(Thing(30, "3", 15.0, 4), 0.5, records[3].confidence),  # a time that is past changes nothing
        Found(Thing(0, "0", 7.0, 1), -0.25, records[0].confidence),
    ]
    assert ids == (30, 0)
    assert accesses == ([(1, 7.0), *before[1:3], (4, 15.0)] if counts else before)
    assert (records, made.touched(*shapes(made), records, accesses, [], [], 7.0, counts)) == (kept()[0], ([], ()))


@both
def test_found_twice_counts_twice(made):
    records, accesses = kept()
    matches, _ = made.touched(*shapes(made), records, accesses, [1, 1], [0.5, 0.5], 9.0, True)
    assert [match.thing.count for match in matches] == [2, 3]
    assert accesses[1] == (3, 9.0)


@both
@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (3, [1, 2]),
        (3, [Found]),
        (4, [(1,)]),
        (4, [("a", 1.0)]),
        (4, []),
        (5, [9]),
        (5, ["0"]),
        (6, [0.5, 0.5]),
        (7, "x"),
    ],
)
def test_what_does_not_fit_is_an_error(made, place, wrong):
    records, accesses = kept()
    args = [*shapes(made), records, accesses, [0], [0.5], 9.0, True]
    args[place] = wrong
    with pytest.raises((TypeError, AttributeError, ValueError, IndexError)):
        made.touched(*args)
    assert accesses == kept()[1]


def test_the_kernel_in_use_is_one_of_them():
    assert kernel.touched is kernel.chosen.made.touched
