"""Vectors with a filter, from the documentation of the standard library: what is searched, and what is right.

Each line of the documentation is a vector with its module beside it. The module has no index of its own, as in many
applications: the index on the distance gives the nearest lines of all modules, and the filter leaves few of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sona.checks import Floats
from sona.demo.stdlib import as_typed, load_corpus
from sona.text.embed import LsaEmbedder

if TYPE_CHECKING:
    from sona.tuner.borrow import Connection

LIMIT = 10
"""Lines asked for."""
FILTERED = f"SELECT id FROM line WHERE module = %s ORDER BY embedding <=> %s::vector LIMIT {LIMIT}"
UNFILTERED = f"SELECT id FROM line ORDER BY embedding <=> %s::vector LIMIT {LIMIT}"
_TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE line (id integer PRIMARY KEY, module text NOT NULL, text text NOT NULL, embedding vector({0}) NOT NULL)
"""
_INDEX = "CREATE INDEX ON line USING hnsw (embedding vector_cosine_ops)"
_FEWEST_WORDS = 4
_LEAST_LINES = 30  # of a module that is asked for
_UNFILTERED = 4  # one search in so many has no filter
_TIE = 1e-5  # of distances in single precision: lines that are equally near count alike


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of the documentation.

    Args:
        texts: Their texts, each once.
        modules: The module of each, (n,).
        vectors: Shape (n, d), each of length 1.
        queries: What may be asked, as a person would type it, shape (q, d).
        asked: The module that each of them is about, (q,).
    """

    texts: tuple[str, ...]
    modules: tuple[str, ...]
    vectors: Floats
    queries: Floats
    asked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """One search.

    Args:
        query: Shape (d,).
        module: What has to be equal; None for a search in all of them.
    """

    query: Floats
    module: str | None

    @property
    def sql(self) -> str:
        """What is sent."""
        return UNFILTERED if self.module is None else FILTERED

    @property
    def params(self) -> list[object]:
        """The parameters of it, as an application gives them."""
        text = f"[{','.join(f'{value:.6g}' for value in self.query)}]"
        return [text] if self.module is None else [self.module, text]


def read_lines(seed: int = 0) -> Lines:
    """Return the lines of the documentation of the running interpreter, and sentences to ask with.

    Args:
        seed: Of the words that people leave out.
    """
    corpus, rng = load_corpus(full_text=True), np.random.default_rng(seed)
    homes: dict[str, str] = {}
    for entry in corpus.entries:
        for line in map(str.strip, entry.text.split("\n")):
            if len(line.split()) >= _FEWEST_WORDS:
                homes.setdefault(line, _module(entry.id))
    texts, modules = tuple(homes), tuple(homes.values())
    counts = {name: modules.count(name) for name in dict.fromkeys(modules)}
    asked = [one for one in corpus.entries if counts.get(_module(one.id), 0) >= _LEAST_LINES]
    typed = [as_typed(one.opening, one.id, rng) for one in asked]
    embedder = LsaEmbedder(seed=seed)
    embedder.fit(texts)
    return Lines(texts, modules, embedder.embed(texts), embedder.embed(typed), tuple(_module(one.id) for one in asked))


def _module(name: str) -> str:
    return name.partition(".")[0]


def load_lines(connection: Connection, lines: Lines) -> None:
    """Make the table and its index.

    Raises:
        psycopg.Error: the server cannot hold vectors.
    """
    connection.execute(_TABLE.format(lines.vectors.shape[1]).encode())
    with connection.cursor() as cursor, cursor.copy("COPY line FROM STDIN") as copy:
        for number, (text, module) in enumerate(zip(lines.texts, lines.modules, strict=True)):
            vector = f"[{','.join(f'{value:.6g}' for value in lines.vectors[number].tolist())}]"
            copy.write_row((number, module, text, vector))
    connection.execute(_INDEX)
    connection.execute("VACUUM ANALYZE line")


class SearchRun:
    """Searches that run with the tuner, as the server chooses, and exactly; and how much of what is right each finds.

    Args:
        lines: What is searched.
        tuned: A connection whose statements are tuned.
        server: One that leaves everything to the server.
        seed: Of what is asked.
    """

    def __init__(self, lines: Lines, tuned: Connection, server: Connection, seed: int = 0) -> None:
        """Ask nothing yet."""
        self._lines, self._rng = lines, np.random.default_rng(seed)
        self._tuned, self._server = tuned, server
        self._modules = np.array(lines.modules)
        self.found: list[SearchPass] = []

    def run_pass(self, count: int) -> SearchPass:
        """Run `count` searches that were not asked before, each both ways in turn, and return how they went."""
        drawn = [self._drawn(place) for place in range(count)]
        outcomes = [self._both(search, is_server_first=place % 2 == 0) for place, search in enumerate(drawn)]
        recalls, times = zip(*outcomes, strict=True)
        recall, time_s = np.mean(recalls, axis=0), np.sum(times, axis=0)
        done = SearchPass(count, float(recall[0]), float(recall[1]), float(time_s[0]), float(time_s[1]))
        self.found.append(done)
        return done

    def _drawn(self, place: int) -> Search:
        row = int(self._rng.integers(len(self._lines.queries)))
        return Search(self._lines.queries[row], None if place % _UNFILTERED == 0 else self._lines.asked[row])

    def _both(self, search: Search, *, is_server_first: bool) -> tuple[tuple[float, float], tuple[float, float]]:
        exact = self._exact(search)
        first, second = (self._server, self._tuned) if is_server_first else (self._tuned, self._server)
        one, other = self._timed(first, search, exact), self._timed(second, search, exact)
        tuned, server = (other, one) if is_server_first else (one, other)
        return (tuned[0], server[0]), (tuned[1], server[1])

    def _timed(self, connection: Connection, search: Search, exact: Exact) -> tuple[float, float]:
        began = time.perf_counter()
        rows = connection.execute(search.sql.encode(), search.params).fetchall()
        time_s = time.perf_counter() - began
        return exact.recall([int(str(row[0])) for row in rows]), time_s

    def _exact(self, search: Search) -> Exact:
        places = np.arange(len(self._modules))
        if search.module is not None:
            places = np.flatnonzero(self._modules == search.module)
        similarities = self._lines.vectors[places] @ search.query
        return Exact.of(places, similarities)


@dataclass(frozen=True, slots=True)
class Exact:
    """What an exact search finds.

    Args:
        near: Rows that are near enough to be right; equally near ones all are.
        count: How many there should be.
    """

    near: frozenset[int]
    count: int

    @classmethod
    def of(cls, places: np.ndarray[tuple[int], np.dtype[np.int64]], similarities: Floats) -> Exact:
        """Return the nearest of some rows.

        Args:
            places: Their numbers, (n,).
            similarities: How near they are, (n,).
        """
        count = min(LIMIT, len(places))
        least = np.sort(similarities)[-count] - _TIE if count else 0.0
        return cls(frozenset(places[similarities >= least].tolist()), count)

    def recall(self, rows: Sequence[int]) -> float:
        """Return how much of what is right is among these rows; 1 where nothing is."""
        return min(1.0, len(self.near.intersection(rows)) / self.count) if self.count else 1.0


@dataclass(frozen=True, slots=True)
class SearchPass:
    """Some searches, both ways.

    Args:
        count: How many.
        tuned_recall: Mean recall with what the tuner chose, in [0, 1].
        server_recall: The same as the server chooses.
        tuned_s: Seconds with what the tuner chose, checks included.
        server_s: Seconds as the server chooses.
    """

    count: int
    tuned_recall: float
    server_recall: float
    tuned_s: float
    server_s: float
