"""Memories: texts with an id and, once indexed, a vector each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sona.engine.memories import Memories
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.state import State, digest


def letters(texts) -> np.ndarray:
    """Embed a text by how often it holds each of three letters."""
    return np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)


def made(*texts: str) -> Memories:
    memories = Memories()
    for text in texts:
        memories.add(text)
    return memories


def index(memories: Memories, embed=letters, *, anew: bool = False) -> int:
    """Embed what waits, or everything, and return how many texts were embedded."""
    embedded = memories.embedded(embed, anew=anew)
    memories.publish(embedded.vectors, embedded.rows)
    return len(embedded.made)


def test_a_memory_waits_until_it_is_indexed_and_then_has_a_unit_vector():
    memories = made("aa", "ab")
    assert (len(memories), memories.waiting_count, len(memories.vectors)) == (2, 2, 0)
    assert index(memories) == 2
    assert memories.waiting_count == 0
    np.testing.assert_allclose(memories.vectors, [[1.0, 0.0, 0.0], [0.5**0.5, 0.5**0.5, 0.0]], rtol=1e-6)
    assert index(memories) == 0


def test_only_what_waits_is_embedded_unless_everything_is_asked_for_anew():
    memories, seen = made("a"), []

    def embed(texts):
        seen.append(list(texts))
        return letters(texts)

    index(memories, embed)
    memories.add("b")
    index(memories, embed)
    index(memories, embed, anew=True)
    assert seen == [["a"], ["b"], ["a", "b"]]


def test_the_same_text_is_one_memory_and_the_same_id_replaces_its_text():
    memories = Memories()
    first = memories.add("a", "one")
    assert memories.add("a") == first == "one"
    assert len(memories) == 1
    index(memories)
    assert memories.add("b", "one") == "one"
    assert (len(memories), memories.text("one"), memories.waiting_count) == (1, "b", 1)
    index(memories)
    np.testing.assert_allclose(memories.vectors, [[0.0, 1.0, 0.0]])
    assert memories.add("a") != "one"
    assert memories.add("b", "one") == "one"
    assert memories.waiting_count == 1  # only the new "a"; "b" under its own id says nothing new


def test_made_up_ids_never_take_one_that_is_taken():
    memories = Memories()
    memories.add("a", "m2")
    assert memories.add("b") != "m2"
    assert len({memories.add(text) for text in ("b", "c", "d")}) == 3


def test_a_given_vector_is_kept_through_a_new_index():
    memories = Memories()
    memories.add("anything", "one", np.array([0.0, 0.0, 2.0], np.float32))
    memories.add("a", "two")
    assert index(memories) == 1
    assert index(memories, anew=True) == 1
    np.testing.assert_allclose(memories.vectors, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    memories.add("b", "one")
    index(memories)
    np.testing.assert_allclose(memories.vectors[0], [0.0, 1.0, 0.0])


def test_vectors_are_read_only_and_replaced_whole():
    memories = made("a")
    index(memories)
    held = memories.vectors
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 0.0
    memories.add("b")
    index(memories)
    assert len(held) == 1
    assert len(memories.vectors) == 2


def test_ids_are_those_of_the_rows_even_when_a_reader_kept_an_older_list():
    memories = made("a")
    old = memories.ids
    memories.add("b")
    memories._ids = old  # as a reader that was overtaken would have left it
    assert memories.ids == ("m1", "m2")


@pytest.mark.parametrize(
    ("text", "id", "vector"),
    [
        *[("", None, None), (" \n", None, None), (5, None, None), ("b", "", None), ("b", 7, None)],
        *[("b", None, vector) for vector in ([np.nan], [[1.0]], [], ["x"])],
    ],
)
def test_bad_input_adds_nothing(text, id, vector):  # noqa: A002
    memories = made("a")
    before = digest(memories.state())
    with pytest.raises(InvalidValue):
        memories.add(text, id, vector)
    assert digest(memories.state()) == before


def test_vectors_of_another_width_are_refused_and_change_nothing():
    memories = made("a")
    index(memories)
    memories.add("b")
    before = digest(memories.state())
    with pytest.raises(DimensionMismatch):
        index(memories, lambda texts: np.ones((len(texts), 2), np.float32))
    assert digest(memories.state()) == before
    assert index(memories) == 1


def test_nothing_changes_before_vectors_are_published():
    memories = made("a", "b")
    before = digest(memories.state())
    embedded = memories.embedded(letters)
    assert digest(memories.state()) == before
    assert (memories.waiting_count, len(memories.vectors)) == (2, 0)
    memories.publish(embedded.vectors)
    assert (memories.waiting_count, memories.vectors.tolist()) == (0, embedded.vectors.tolist())


def test_vectors_made_are_those_of_the_embedder_as_they_came():
    memories = made("aab")
    memories.add("kept", "given", np.array([0.0, 0.0, 2.0], np.float32))
    embedded = memories.embedded(letters)
    assert embedded.made.tolist() == [[2.0, 1.0, 0.0]]
    assert embedded.vectors[1].tolist() == [0.0, 0.0, 1.0]
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1.0, rtol=1e-6)


def test_an_embedder_that_loses_a_text_is_refused_and_changes_nothing():
    memories = made("a", "b")
    before = digest(memories.state())
    with pytest.raises(InvalidValue, match="expected 2 vectors, got 1"):
        memories.embedded(lambda texts: letters(texts[:1]))
    assert digest(memories.state()) == before


def test_vectors_of_another_embedder_take_the_place_of_all_and_of_those_that_were_given():
    memories = made("a", "b")
    memories.add("kept", "given", np.array([0.0, 0.0, 2.0], np.float32))
    index(memories)
    memories.add("c")
    given = np.array([[3.0, 0.0], [0.0, 4.0], [1.0, 0.0], [3.0, 4.0]], np.float32)
    memories.replace_vectors(given)
    np.testing.assert_allclose(memories.vectors, [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8]], rtol=1e-6)
    assert (memories.width, memories.waiting_count) == (2, 0)
    assert not memories.vectors.flags.writeable
    given[0] = 9.0
    assert memories.vectors[0].tolist() == [1.0, 0.0]
    assert index(memories, lambda texts: np.ones((len(texts), 2), np.float32), anew=True) == 4
    before = digest(memories.state())
    for wrong in (np.ones((3, 2), np.float32), np.full((4, 2), np.nan, np.float32)):
        with pytest.raises(InvalidValue):
            memories.replace_vectors(wrong)
    assert digest(memories.state()) == before


def test_an_unknown_id_is_named():
    with pytest.raises(InvalidValue, match="'nobody'"):
        made("a").text("nobody")
    assert "nobody" not in made("a")
    assert "m1" in made("a")


def test_ids_and_texts_that_differ_in_number_do_not_load():
    values = dict(made("a").state().items())
    with pytest.raises(StoreError):
        Memories.from_state(State({**values, "ids": ["m1", "m2"]}))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([None, "one", "two", "m2"])), max_size=12))
def test_a_reloaded_memory_goes_on_as_the_one_that_was_saved(calls):
    memories = Memories()
    for text, id in calls:  # noqa: A001
        memories.add(text, id)
    again = Memories.from_state(memories.state())
    assert digest(again.state()) == digest(memories.state())
    for text in "abcd":
        assert memories.add(text) == again.add(text)
        assert memories.text(memories.add(text)) == text
    assert digest(again.state()) == digest(memories.state())


# -- memories that are merged or removed ------------------------------------------------------------------------------


def test_what_is_left_is_another_object_and_readers_of_the_first_go_on():
    memories = made("a", "b", "ab")
    index(memories)
    held, vectors = digest(memories.state()), memories.vectors
    left = memories.without({"m2": "m1", "m3": None})
    assert digest(memories.state()) == held
    assert memories.vectors is vectors
    assert (left.ids, left.texts, len(left), len(left.vectors)) == (("m1",), ("a",), 1, 1)
    assert not left.vectors.flags.writeable
    assert ("m2" in left, "m3" in left) == (True, False)
    assert (left.text("m2"), left.row("m2")) == ("a", 0)
    with pytest.raises(InvalidValue, match="'m3'"):
        left.text("m3")


def test_all_of_them_may_go():
    memories = made("a", "b")
    index(memories)
    left = memories.without({"m1": None, "m2": None})
    assert (len(left), left.ids, left.width, left.waiting) == (0, (), None, ())
    assert left.add("c") == "m3"
    assert digest(Memories.from_state(left.state()).state()) == digest(left.state())


def test_what_waits_and_what_was_given_moves_with_its_memory():
    memories = made("a", "b")
    memories.add("kept", "given", np.array([0.0, 0.0, 2.0], np.float32))
    index(memories)
    memories.add("c")
    left = memories.without({"m1": None})
    assert (left.ids, left.waiting) == (("m2", "given", "m4"), ("m4",))
    assert index(left) == 1
    assert left.vectors.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    assert index(left, lambda texts: np.ones((len(texts), 3), np.float32), anew=True) == 2
    assert left.vectors[1].tolist() == [0.0, 0.0, 1.0]


def test_a_merged_id_stands_for_the_last_one_in_a_chain_and_goes_with_it():
    memories = made("a", "b", "c")
    index(memories)
    left = memories.without({"m1": "m2"}).without({"m2": "m3"})
    assert [left.row(name) for name in ("m1", "m2", "m3")] == [0, 0, 0]
    gone = left.without({"m3": None})
    assert [name in gone for name in ("m1", "m2", "m3")] == [False] * 3


def test_a_merged_id_that_comes_back_is_a_memory_of_its_own_at_the_end():
    memories = made("a", "b", "c")
    index(memories)
    left = memories.without({"m1": "m2"})
    assert left.add("something", "m1") == "m1"
    assert left.ids == ("m2", "m3", "m1")
    assert left.texts == ("b", "c", "something")
    assert left.text("m1") == "something"
    assert left.waiting == ("m1",)
    again = left.without({"m2": "m3"})
    assert (again.ids, again.text("m2"), again.text("m1")) == (("m3", "m1"), "c", "something")


def test_what_was_merged_and_is_said_again_is_known_and_stays_where_it_is():
    memories = made("a", "b", "c")
    index(memories)
    left = memories.without({"m1": "m2"})
    for each in (left, Memories.from_state(left.state())):
        before = digest(each.state())
        assert (each.id_for("a"), each.is_known("m1", "a"), each.is_known("m1", "b")) == ("m1", True, False)
        assert (each.add("a"), each.add("a", "m1")) == ("m1", "m1")
        assert digest(each.state()) == before
        assert each.add("a", "other") == "other"  # under another id it is a memory, and answers for its words
        assert (each.id_for("a"), each.ids) == ("other", ("m2", "m3", "other"))
    assert digest(left.state()) == digest(Memories.from_state(left.state()).state())


def test_ids_are_right_at_every_moment_while_a_merged_one_comes_back():
    # A reader that asks in between must not keep what it saw.
    memories = made("a", "b", "c")
    index(memories)
    left = memories.without({"m1": "m2"})
    left.add("d")
    seen = []

    class Watched(dict):
        def __setitem__(self, key, value):
            seen.append(left.ids)
            super().__setitem__(key, value)

        def __delitem__(self, key):
            seen.append(left.ids)
            super().__delitem__(key)

        def pop(self, *args):
            value = super().pop(*args)
            seen.append(left.ids)
            return value

    left._row_of, left._merged = Watched(left._row_of), Watched(left._merged)
    left.add("something", "m1")
    assert {ids[:3] for ids in seen} == {("m2", "m3", "m4")}
    assert left.ids == ("m2", "m3", "m4", "m1")


@pytest.mark.parametrize("target", ["stranger", "m3", "m4"])
def test_none_goes_into_what_is_not_here_goes_itself_or_was_not_compared(target):
    memories = made("a", "b", "c", "d")
    index(memories)
    memories.add("new words", "m4")  # whatever the two had in common, it was in the old ones
    left = memories.without({"m1": target, "m3": None})
    assert ("m1" in left.ids, "m3" in left.ids) == (True, False)
    assert left.text("m1") == "a"
    assert left.waiting == ("m1", "m4")  # so that it finds its way back to where it was taken out already
    assert index(left) == 2


def test_a_number_is_given_out_once_whatever_went():
    memories = made("a", "b", "c")
    index(memories)
    left = Memories.from_state(memories.without({"m3": None, "m2": "m1"}).state())
    assert [left.add(text) for text in ("d", "e")] == ["m4", "m5"]
    assert left.add("by hand", "m7") == "m7"
    assert left.add("f") == "m8"
    for odd in ("m", "mx", "m\u0661", "m" + "9" * 40, "x9"):
        assert left.add(f"odd {odd}", odd) == odd
    assert left.add("g") == "m11"  # the eleventh text; no odd name counts as a number


def test_words_of_another_memory_that_are_the_same_answer_for_it_when_one_goes():
    memories = Memories()
    for name in ("one", "two"):
        memories.add("same", name)
    index(memories)
    left = memories.without({"one": None})
    assert left.add("same") == "two"
    kept = memories.without({"two": "one"})
    assert kept.add("same") == "one"
    assert kept.add("other", "one") == "one"
    assert kept.add("same") not in ("one", "two")


def test_vectors_made_anew_are_those_that_are_known_and_else_of_the_embedder():
    memories, asked = made("a", "b", "c"), []
    index(memories)
    left = memories.without({"m1": "m2"})

    def embed(texts):
        asked.append(list(texts))
        return letters(texts)

    fresh = left.made_anew(embed, {"m2": np.array([5.0, 0.0, 0.0], np.float32)})
    assert asked == [["c"]]
    assert fresh.tolist() == [[5.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert Memories().made_anew(embed, {}).shape == (0, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("merged_into", ["nobody"]), ("merged_into", []), ("merged", ["m2"]), ("ids", ["m2", "m2"]), ("numbered", "x")],
)
def test_a_damaged_record_of_merges_is_refused(name, value):
    memories = made("a", "b", "c")
    index(memories)
    values = dict(memories.without({"m1": "m2"}).state().items())
    with pytest.raises(StoreError):
        Memories.from_state(State({**values, name: value}))


# -- room to grow, and vectors of the caller's that are kept once -----------------------------------------------------


def test_one_more_is_written_behind_what_readers_hold_and_few_copies_are_made():
    memories, rooms, held = made("a", "b"), [], []
    for number in range(200):
        memories.add(f"{number} a b")
        index(memories)
        vectors = memories.vectors
        held.append((vectors, vectors.tobytes()))
        if not any(np.shares_memory(vectors, room) for room in rooms):
            rooms.append(vectors)
    assert len(rooms) <= np.log2(200) + 1
    assert all(vectors.tobytes() == before for vectors, before in held)
    assert memories.vectors.flags.c_contiguous
    assert len({id(vectors) for vectors, _ in held}) == 200  # another object whenever anything changed
    for vectors, _ in held:
        with pytest.raises(ValueError, match="read-only"):
            vectors[0] = 0.0


def test_a_text_that_is_replaced_changes_no_row_that_readers_hold():
    memories = made("a", "b")
    index(memories)
    memories.add("c")
    index(memories)  # with room for one more
    held, before = memories.vectors, memories.vectors.tobytes()
    memories.add("c c", "m1")
    memories.add("a b")
    index(memories)
    assert held.tobytes() == before
    assert not np.shares_memory(held, memories.vectors)
    assert memories.vectors[[0, 1, 2]].tolist() == [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_what_was_embedded_and_never_published_is_not_seen():
    memories = made("a", "b")
    index(memories)
    memories.add("c")
    index(memories)
    memories.add("a")  # known
    memories.add("c c b")
    lost = memories.embedded(lambda texts: np.ones((len(texts), 3), np.float32))
    assert (len(lost.rows), len(memories.vectors)) == (1, 3)
    assert index(memories) == 1
    assert memories.vectors[3].tolist() != lost.vectors[0].tolist()


def test_a_vector_of_the_callers_is_held_and_saved_once():
    memories = Memories()
    for number in range(50):
        memories.add(f"text {number}", None, np.random.default_rng(number).normal(size=8).astype(np.float32))
    waiting = memories.state()
    assert waiting.floats("given", 50, 8).nbytes == 50 * 8 * 4
    index(memories, never)
    state = memories.state()
    sizes = {
        name: value.nbytes for name, value in state.items() if isinstance(value, np.ndarray) and value.dtype == "f"
    }
    assert sizes == {"vectors": 50 * 8 * 4, "given": 0}
    for each in (memories, Memories.from_state(state)):
        assert not each.needs_words
        assert index(each, never, anew=True) == 0  # still the caller's
        np.testing.assert_array_equal(each.vectors, memories.vectors)
    memories.replace_vectors(np.ones((50, 8), np.float32))
    assert index(memories, lambda texts: np.ones((len(texts), 8), np.float32), anew=True) == 50


def test_a_state_that_holds_vectors_of_the_callers_twice_loads_as_one_of_today():
    memories = made("a")
    memories.add("kept", "given", np.array([0.0, 0.0, 2.0], np.float32))
    memories.add("again", "late", np.array([0.0, 3.0, 0.0], np.float32))
    index(memories)
    memories.add("other words", "late", np.array([4.0, 0.0, 0.0], np.float32))
    today = memories.state()
    rows = np.stack([memories.vectors[1], np.array([1.0, 0.0, 0.0], np.float32)])
    older = {**dict(today.items()), "given_rows": np.array([1, 2]), "given": rows}
    assert older["given_rows"].tolist() == today.wholes("given_rows", None).tolist()
    again = Memories.from_state(State(older))
    assert digest(again.state()) == digest(today)
    with pytest.raises(StoreError, match="differ in number"):
        Memories.from_state(State({**older, "given": np.zeros((3, 3), np.float32)}))
    for each in (memories, again):
        assert index(each, anew=True) == 1
    assert digest(again.state()) == digest(memories.state())


def never(texts):
    raise AssertionError(texts)


WORDS, NAMES = st.sampled_from(["a", "b", "ab", "abc", "cc", "bcb"]), st.sampled_from(["one", "two", "three", "m2"])
STEPS = st.one_of(
    st.tuples(st.just("add"), NAMES, WORDS, st.none() | st.integers(0, 3)),
    st.tuples(st.just("go"), NAMES, NAMES | st.none()),
    st.tuples(st.sampled_from(["index", "anew", "load"])),
)


@given(st.lists(STEPS, max_size=30))
def test_a_memory_has_the_vector_of_its_words_or_the_callers_and_readers_keep_what_they_saw(steps):
    memories, said, callers, held = Memories(), {}, {}, []
    for kind, *rest in [*steps, ("index",)]:
        if kind == "add":
            name, text, number = rest
            given = None if number is None else np.random.default_rng(number).normal(size=3).astype(np.float32)
            if not memories.is_known(name, text) or given is not None:
                said[name], callers[name] = text, given
            memories.add(text, name, given)
        elif kind == "go" and rest[0] not in memories.ids:
            continue
        elif kind == "go":
            memories = memories.without({rest[0]: rest[1]})
        elif kind == "load":
            memories = Memories.from_state(memories.state())
        else:
            index(memories, anew=kind == "anew")
            for row, name in enumerate(memories.ids):
                given = callers[name]
                raw = letters([said[name]])[0] if given is None else given
                np.testing.assert_allclose(memories.vectors[row], raw / np.linalg.norm(raw), rtol=1e-6, atol=1e-7)
        assert not (len(memories.vectors) and memories.vectors.flags.writeable)
        held.append((memories.vectors, memories.vectors.tobytes()))
    assert all(vectors.tobytes() == before for vectors, before in held)
