import numpy as np
import pytest

from sona.demo.evaluation import ndcg, top_cosine
from sona.demo.labelled import Banking77, Cranfield, data_folder
from sona.demo.tasks import RequestSet, Task, banking77_task, cranfield_task, stdlib_task
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.text.embed import LsaEmbedder


def requests(keys="ab", width=2):
    count = len(keys)
    return RequestSet(tuple(keys), tuple(keys), np.ones((count, width), np.float32), (frozenset({"d"}),) * count)


def frozen(task, part):
    best = top_cosine(part.vectors, task.vectors)
    shown = [[task.ids[int(row)] for row in rows] for rows in best]
    return float(np.mean([ndcg(ids, wanted) for ids, wanted in zip(shown, part.relevant, strict=True)]))


def has_data():
    try:
        return (data_folder() / "cranfield").is_dir()
    except StoreError:
        return False


needs_data = pytest.mark.skipif(not has_data(), reason="no data folder: set SONA_DATA")


@pytest.fixture(scope="module")
def stdlib():
    return stdlib_task(0)


def test_stdlib_parts_are_apart_and_paraphrases_say_the_same(stdlib):
    assert set(stdlib.stream.keys).isdisjoint(stdlib.held_out.keys)
    assert len(stdlib.stream) + len(stdlib.held_out) == len(stdlib.ids)
    assert abs(len(stdlib.stream) / len(stdlib.ids) - 2 / 3) < 0.001
    assert stdlib.repeat is stdlib.stream
    assert stdlib.paraphrase.keys == stdlib.stream.keys
    same = sum(a == b for a, b in zip(stdlib.paraphrase.texts, stdlib.stream.texts, strict=True))
    assert same / len(stdlib.stream) < 0.2
    assert stdlib.passes == 6
    assert all(relevant == {key} for key, relevant in zip(stdlib.held_out.keys, stdlib.held_out.relevant, strict=True))


def test_stdlib_is_hard_without_the_opening_and_easy_with_it(stdlib):
    assert 0.10 < frozen(stdlib, stdlib.held_out) < 0.22
    easy = stdlib_task(0, full_text=True)
    assert 0.65 < frozen(easy, easy.held_out) < 0.85
    assert easy.held_out.texts == stdlib.held_out.texts


def test_stdlib_words_are_fitted_on_memories_alone(stdlib):
    embedder = LsaEmbedder()
    embedder.fit(stdlib.texts)
    np.testing.assert_array_equal(embedder.embed(stdlib.texts[:5]), stdlib.vectors[:5])
    np.testing.assert_array_equal(embedder.embed(stdlib.held_out.texts[:5]), stdlib.held_out.vectors[:5])


def test_stdlib_follows_its_seed(stdlib):
    again, other = stdlib_task(0), stdlib_task(1)
    assert again.stream.texts == stdlib.stream.texts
    assert again.stream.keys == stdlib.stream.keys
    assert other.stream.keys != stdlib.stream.keys


def test_few_held_out_requests_nearly_repeat_streamed_ones(stdlib):
    assert len(stdlib.overlapping) < 0.02 * len(stdlib.held_out)


def test_banking77_streams_train_and_holds_out_test():
    rng = np.random.default_rng(0)
    data = Banking77(
        ("a", "b"), np.eye(2, dtype=np.float32),
        ("one two", "three four", "five six"), rng.normal(size=(3, 2)).astype(np.float32), (0, 1, 0),
        ("two one", "new words"), rng.normal(size=(2, 2)).astype(np.float32), (1, 0),
    )  # fmt: skip
    task = banking77_task(0, data=data)
    assert (task.passes, len(task.stream), len(task.held_out), task.paraphrase) == (1, 3, 2, None)
    assert set(task.repeat.keys) <= set(task.stream.keys)
    assert task.held_out.relevant == (frozenset({"b"}), frozenset({"a"}))
    assert task.overlapping == (0,)


def test_cranfield_paraphrases_follow_their_questions():
    count = 6
    rng = np.random.default_rng(0)
    data = Cranfield(
        ("x", "y"), np.eye(2, dtype=np.float32),
        tuple(f"q{row}" for row in range(count)), rng.normal(size=(count, 2)).astype(np.float32),
        tuple(frozenset({str(row % 2)}) for row in range(count)),
        tuple((f"p{row}", f"r{row}") for row in range(count)),
        rng.normal(size=(2, count, 2)).astype(np.float32),
    )  # fmt: skip
    task = cranfield_task(0, data=data)
    assert (task.passes, len(task.stream), len(task.held_out), len(task.paraphrase)) == (6, 4, 2, 8)
    for place, (key, text) in enumerate(zip(task.paraphrase.keys, task.paraphrase.texts, strict=True)):
        row = int(key.removeprefix("query-"))
        assert text == data.paraphrases[row][place // 4]
        np.testing.assert_array_equal(task.paraphrase.vectors[place], data.paraphrase_vectors[place // 4][row])
        assert task.paraphrase.relevant[place] == data.relevant[row]


@needs_data
def test_the_labelled_sets_start_where_they_are_known_to():
    banking = banking77_task(0)
    assert (len(banking.stream), len(banking.repeat), len(banking.held_out)) == (3000, 1000, 1000)
    assert frozen(banking, banking.held_out) == pytest.approx(0.757, abs=0.002)
    cranfield = cranfield_task(0)
    assert (len(cranfield.stream), len(cranfield.held_out), len(cranfield.ids)) == (150, 75, 1400)
    assert frozen(cranfield, cranfield.held_out) == pytest.approx(0.41, abs=0.04)


def test_a_task_refuses_held_out_requests_of_the_stream():
    part, documents = requests(), np.ones((1, 2), np.float32)
    with pytest.raises(InvalidValue, match="part of the stream"):
        Task("t", "", 0, ("d",), ("d",), documents, part, 1, part, part)
    with pytest.raises(DimensionMismatch):
        Task("t", "", 0, ("d",), ("d",), documents, part, 1, part, requests("cd", width=3))
    with pytest.raises(InvalidValue, match="differ"):
        Task("t", "", 0, ("d", "e"), ("d",), documents, part, 1, part, requests("cd"))


def test_a_request_needs_an_answer():
    with pytest.raises(InvalidValue, match="answer"):
        RequestSet(("a",), ("a",), np.ones((1, 2), np.float32), (frozenset(),))
    with pytest.raises(InvalidValue, match="differ"):
        RequestSet(("a", "b"), ("a",), np.ones((1, 2), np.float32), (frozenset({"d"}),))
