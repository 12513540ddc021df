"""What is asked, of what, in which order of honesty: the three data sets as tasks of one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from sona.checks import Floats, matrix, whole
from sona.demo.evaluation import near_duplicates
from sona.demo.labelled import Banking77, Cranfield, load_banking77, load_cranfield
from sona.demo.stdlib import StdlibCorpus, as_typed, load_corpus
from sona.errors import InvalidValue
from sona.text.embed import LsaEmbedder, words

STREAM_SHARE = 2.0 / 3.0
_REPEAT_SAMPLE = 1000  # of BANKING77's stream


@dataclass(frozen=True, slots=True, eq=False)
class RequestSet:
    """Requests with what answers them; a request keeps its key in every part and seed.

    Args:
        keys: Which request this is, one each; a paraphrase has the key of what it says.
        texts: What was typed.
        vectors: Embeddings, shape (n, d).
        relevant: Ids of the documents that answer each, at least one.

    Raises:
        InvalidValue: parts of different lengths, or a request without an answer.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Floats
    relevant: tuple[frozenset[str], ...]

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        object.__setattr__(self, "vectors", matrix(self.vectors, what="request vectors"))
        if not len(self.keys) == len(self.texts) == len(self.vectors) == len(self.relevant):
            raise InvalidValue("requests: keys, texts, vectors and answers differ in length")
        if not all(self.relevant):
            raise InvalidValue("requests: each needs at least one answer")

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.keys)

    def take(self, rows: Sequence[int]) -> RequestSet:
        """Return the requests in `rows`, in that order."""
        chosen = [int(row) for row in rows]
        return RequestSet(
            tuple(self.keys[row] for row in chosen),
            tuple(self.texts[row] for row in chosen),
            self.vectors[chosen],
            tuple(self.relevant[row] for row in chosen),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Documents, a stream to learn from, and three parts to be judged by, never mixed.

    Args:
        name: Name of the data set.
        description: What is asked and what answers, in one sentence.
        seed: Decides the split and the wordings.
        ids: Ids of the documents.
        texts: Texts of the documents.
        vectors: Their embeddings, shape (n, d).
        stream: The requests to learn from.
        passes: How often each is asked.
        repeat: Requests of the stream, asked again.
        held_out: Requests that were never streamed.
        paraphrase: Other wordings of requests of the stream; None where there are none.
        overlapping: Rows of `held_out` whose words are nearly those of a request of the stream.
    """

    name: str
    description: str
    seed: int
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Floats
    stream: RequestSet
    passes: int
    repeat: RequestSet
    held_out: RequestSet
    paraphrase: RequestSet | None = None
    overlapping: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse documents and requests that do not fit, and held-out requests that are in the stream."""
        width = matrix(self.vectors, what="document vectors").shape[1]
        whole(self.passes, "passes", 1)
        if not len(self.ids) == len(self.texts) == len(self.vectors):
            raise InvalidValue("documents: ids, texts and vectors differ in length")
        for part in (self.stream, *self.parts().values()):
            matrix(part.vectors, width, "request vectors")
        if set(self.held_out.keys) & set(self.stream.keys):
            raise InvalidValue("held-out requests are part of the stream")

    def parts(self) -> Mapping[str, RequestSet]:
        """Return the parts by name: repeat, paraphrase where there is one, held_out."""
        parts = {"repeat": self.repeat, "paraphrase": self.paraphrase, "held_out": self.held_out}
        return MappingProxyType({name: part for name, part in parts.items() if part is not None})


def stdlib_task(seed: int, *, full_text: bool = False) -> Task:
    """Return the task of finding a standard-library object from its opening sentence as typed.

    A random 2/3 of the objects are asked for in 6 passes, as Cranfield's protocol has it, the same words each time;
    paraphrases drop other words; held-out are the other objects. Words and directions are fitted on the memories
    alone.

    Args:
        seed: Decides the split and the words dropped.
        full_text: Keep the opening sentence in the memory: the easy case.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    corpus, embedder, vectors = _embedded_corpus(full_text)
    rng = np.random.default_rng(seed)
    ids = tuple(entry.id for entry in corpus.entries)
    first, second = (_typed(corpus, embedder, rng) for _ in range(2))
    streamed, unseen = _split(len(ids), rng)
    stream, held_out = first.take(streamed), first.take(unseen)
    return Task(
        name="stdlib_full_text" if full_text else "stdlib",
        description=(
            f"Find one of {len(ids):,} objects of this interpreter's standard library from the opening sentence of its "
            f"documentation as a person would type it; the memory holds the documentation "
            f"{'with' if full_text else 'without'} that sentence."
        ),
        seed=seed,
        ids=ids,
        texts=tuple(entry.text for entry in corpus.entries),
        vectors=vectors,
        stream=stream,
        passes=6,
        repeat=stream,
        held_out=held_out,
        paraphrase=second.take(streamed),
        overlapping=_overlapping(held_out, stream),
    )


def banking77_task(seed: int, *, data: Banking77 | None = None) -> Task:
    """Return the task of finding the intent of a bank customer's question among 77 names.

    One pass over the 3,000 training questions; repeat is a sample of 1,000 of them, held-out the 1,000 test questions.

    Raises:
        StoreError: the data folder is missing.
    """
    data = data or load_banking77()
    rng = np.random.default_rng(seed)
    stream = _labelled("train", data.train_texts, data.train_vectors, [data.labels[row] for row in data.train_labels])
    held_out = _labelled("test", data.test_texts, data.test_vectors, [data.labels[row] for row in data.test_labels])
    sample = rng.permutation(len(stream))[:_REPEAT_SAMPLE].tolist()
    return Task(
        name="banking77",
        description=f"Find the intent of a bank customer's question among {len(data.labels)} intent names.",
        seed=seed,
        ids=data.labels,
        texts=data.labels,
        vectors=data.label_vectors,
        stream=stream,
        passes=1,
        repeat=stream.take(sample),
        held_out=held_out,
        overlapping=_overlapping(held_out, stream),
    )


def cranfield_task(seed: int, *, data: Cranfield | None = None) -> Task:
    """Return the task of finding the aerodynamics abstracts that answer a question.

    Six passes over a random 2/3 of the questions; paraphrases are those with words dropped, held-out the other 1/3.

    Raises:
        StoreError: the data folder is missing.
    """
    data = data or load_cranfield()
    keys = tuple(f"query-{row}" for row in range(len(data.queries)))
    asked = RequestSet(keys, data.queries, data.query_vectors, data.relevant)
    streamed, unseen = _split(len(asked), np.random.default_rng(seed))
    stream, held_out = asked.take(streamed), asked.take(unseen)
    wordings = range(data.paraphrase_vectors.shape[0])
    paraphrase = RequestSet(
        stream.keys * len(wordings),
        tuple(data.paraphrases[row][wording] for wording in wordings for row in streamed),
        np.concatenate([data.paraphrase_vectors[wording][streamed] for wording in wordings]),
        stream.relevant * len(wordings),
    )
    return Task(
        name="cranfield",
        description=f"Find the abstracts that answer a question among {len(data.documents):,} on aerodynamics.",
        seed=seed,
        ids=tuple(str(row) for row in range(len(data.documents))),
        texts=data.documents,
        vectors=data.document_vectors,
        stream=stream,
        passes=6,
        repeat=stream,
        held_out=held_out,
        paraphrase=paraphrase,
        overlapping=_overlapping(held_out, stream),
    )


def stdlib_full_text_task(seed: int) -> Task:
    """Return `stdlib_task` with the opening sentence kept in the memories."""
    return stdlib_task(seed, full_text=True)


TASKS: Mapping[str, Callable[[int], Task]] = MappingProxyType(
    {
        "stdlib": stdlib_task,
        "stdlib_full_text": stdlib_full_text_task,
        "banking77": banking77_task,
        "cranfield": cranfield_task,
    }
)
"""Builders of the tasks by name: seed in, task out."""


@lru_cache(maxsize=2)
def _embedded_corpus(full_text: bool) -> tuple[StdlibCorpus, LsaEmbedder, Floats]:
    # The corpus and its embedding are the same for every seed.
    corpus = load_corpus(full_text=full_text)
    texts = [entry.text for entry in corpus.entries]
    embedder = LsaEmbedder()
    embedder.fit(texts)
    vectors = embedder.embed(texts)
    vectors.flags.writeable = False
    return corpus, embedder, vectors


def _typed(corpus: StdlibCorpus, embedder: LsaEmbedder, rng: np.random.Generator) -> RequestSet:
    texts = tuple(as_typed(entry.opening, entry.id, rng) for entry in corpus.entries)
    keys = tuple(entry.id for entry in corpus.entries)
    targets = tuple(frozenset({entry.target}) for entry in corpus.entries)
    return RequestSet(keys, texts, embedder.embed(texts), targets)


def _split(count: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    order = rng.permutation(count).tolist()
    cut = round(count * STREAM_SHARE)
    return sorted(order[:cut]), sorted(order[cut:])


def _labelled(part: str, texts: tuple[str, ...], vectors: Floats, labels: list[str]) -> RequestSet:
    keys = tuple(f"{part}-{row}" for row in range(len(texts)))
    return RequestSet(keys, texts, vectors, tuple(frozenset({label}) for label in labels))


def _overlapping(held_out: RequestSet, stream: RequestSet) -> tuple[int, ...]:
    return near_duplicates([words(text) for text in held_out.texts], [words(text) for text in stream.texts])
