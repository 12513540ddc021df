"""The databases that the tuner is tried on: the package graph of Debian, and vectors with a filter.

Whatever reads from a folder is given the data folder (SONA_DATA), and reads in place; nothing is kept elsewhere. Tables
take a while to build: an `EmbeddedServer` with a folder has them still when it is opened again (`has_table`).
"""

from __future__ import annotations

import csv
import lzma
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from sona.text.embed import LsaEmbedder

_READ = 1 << 20  # bytes of text a piece
_TIE = 1e-5  # of cosines in single precision; some packages have the same description
_TABLES = {
    "section": "id integer PRIMARY KEY, name text NOT NULL",
    "maintainer": "id integer PRIMARY KEY, email text NOT NULL",
    "source": "id integer PRIMARY KEY, name text NOT NULL",
    "package": "id integer PRIMARY KEY, name text NOT NULL, section_id integer, maint_id integer, source_id integer,"
    " priority text, arch text, size bigint, isize bigint, multiarch text",
    "vname": "id integer PRIMARY KEY, name text NOT NULL, isreal integer",
    "depends": "id integer PRIMARY KEY, pkg_id integer, dep_id integer,"
    " kind integer, grp integer, alt integer, op text",
    "provides": "pkg_id integer, v_id integer",  # ten pairs are there twice: no key
    "tag": "id integer PRIMARY KEY, name text NOT NULL",
    "pkg_tag": "pkg_id integer, tag_id integer, PRIMARY KEY (pkg_id, tag_id)",
}
_INDEXED = (
    "section (name)",
    "package (section_id)",
    "package (maint_id)",
    "package (source_id)",
    "vname (name)",
    "depends (pkg_id)",
    "depends (dep_id)",
    "provides (pkg_id)",
    "provides (v_id)",
    "tag (name)",
    "pkg_tag (pkg_id)",
    "pkg_tag (tag_id)",
)


@dataclass(frozen=True, slots=True)
class Descriptions:
    """What packages say of themselves, one line each."""

    ids: tuple[int, ...]  # of the packages
    sections: tuple[str, ...]
    texts: tuple[str, ...]

    def of(self, rows: np.ndarray) -> Descriptions:
        """Return the descriptions in these rows."""
        return Descriptions(*(tuple(part[row] for row in rows) for part in (self.ids, self.sections, self.texts)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What building a table of vectors took, in seconds."""

    rows: int
    copy_s: float
    filter_index_s: float
    vector_index_s: float
    analyse_s: float


@dataclass(frozen=True, slots=True)
class Filtered:
    """Vectors, each in one group that a query may filter on: those of a table, or those asked with."""

    vectors: np.ndarray  # (n, d) float32, length 1
    groups: tuple[str, ...] | tuple[int, ...]  # (n,)
    fits: np.ndarray  # (n,) bool: the vector is like those of its group; a table's are


def debian_database(connection: psycopg.Connection, folder: Path, *, with_vectors: bool = False) -> float:
    """Load the package graph with its keys and usual indexes, vacuumed and analysed; return the seconds it took.

    Args:
        connection: In autocommit mode; tables are made in its current schema.
        folder: The data folder.
        with_vectors: Whether to make the table `doc` as well, of every description.
    """
    began = time.perf_counter()
    with connection.transaction():  # whole or not at all
        for table, columns in _TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({columns})")
            _copy_text(connection, table, folder / "debian" / f"{table}.csv.xz")
        for columns in _INDEXED:
            connection.execute(f"CREATE INDEX ON {columns}")
    connection.execute(f"VACUUM (ANALYZE) {', '.join(_TABLES)}")
    if with_vectors:
        table, _ = embed_descriptions(descriptions(folder), held_out=0)
        vector_database(connection, table)
    return time.perf_counter() - began


def queries(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the 112 count queries on the package graph: name and statement, 8 templates of 14 literals each."""
    lines = (folder / "debian" / "queries.txt").read_text(encoding="utf-8").splitlines()
    return tuple((name, sql) for name, _, sql in (line.partition("||") for line in lines if line.strip()))


def _copy_text(connection: psycopg.Connection, table: str, path: Path) -> None:
    into = f"COPY {table} FROM STDIN (FORMAT csv)"
    with lzma.open(path) as text, connection.cursor() as cursor, cursor.copy(into) as copy:
        while piece := text.read(_READ):
            copy.write(piece)


def has_table(connection: psycopg.Connection, table: str) -> bool:
    """Return True when the server has this table, from an earlier run in the same folder."""
    return connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,)


# -- vectors with a filter -----------------------------------------------------------------------------------------


def descriptions(folder: Path) -> Descriptions:
    """Return the 63,666 descriptions: 58 sections of 15 to 6,711, some texts there more than once."""
    with lzma.open(folder / "debian" / "descr.csv.xz", "rt", encoding="utf-8", newline="") as text:
        ids, sections, texts = zip(*csv.reader(text), strict=True)
    return Descriptions(tuple(map(int, ids)), sections, texts)


def embed_descriptions(found: Descriptions, *, held_out: int = 1000, seed: int = 0) -> tuple[Filtered, Filtered]:
    """Return a table of vectors and as many queries as are held out; the embedder never saw those texts.

    Half the queries ask in their own section, the others in another one, drawn by its size.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(found.ids))
    kept, asked = found.of(np.sort(order[held_out:])), found.of(order[:held_out])
    embedder = LsaEmbedder(seed=seed)
    embedder.fit(kept.texts)
    vectors = embedder.embed(asked.texts)
    known = np.flatnonzero(np.abs(vectors).sum(axis=1))  # the cosine of a text without a known word is undefined
    own, drawn = np.arange(held_out) % 2 == 0, rng.integers(0, len(kept.ids), held_out)
    sections = tuple(asked.sections[row] if own[row] else kept.sections[drawn[row]] for row in known)
    fits = np.array([sections[place] == asked.sections[row] for place, row in enumerate(known)], bool)
    table = Filtered(embedder.embed(kept.texts), kept.sections, np.ones(len(kept.ids), bool))
    return table, Filtered(vectors[known], sections, fits)


@dataclass(frozen=True, slots=True)
class Tenants:
    """How vectors of tenants are drawn: each tenant has a few topics, and sizes fall as a power of the rank.

    The defaults make 300,151 rows. A vector is its topic's centre, of length 1, and a spread of length `spread` whose
    directions differ in weight, so that neighbours can be told apart as those of real embeddings can.
    """

    count: int = 372
    least: int = 30
    most: int = 100_000
    width: int = 128
    topics: int = 400
    topics_each: int = 4
    spread: float = 0.8
    seed: int = 0

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each tenant, falling; the tenant's number is its place."""
        fall = math.log(self.most / self.least) / math.log(self.count)
        return np.rint(self.most * np.arange(1, self.count + 1) ** -fall).astype(int)

    def table(self) -> Filtered:
        """Return the table, in an order that says nothing of the tenant."""
        rng = np.random.default_rng(self.seed + 1)
        groups = rng.permutation(np.repeat(np.arange(self.count), self.sizes))
        return Filtered(self._drawn(groups, rng), tuple(groups.tolist()), np.ones(len(groups), bool))

    def queries(self, count: int, *, fitting: float = 0.5, seed: int = 0) -> Filtered:
        """Return vectors drawn anew, asked of tenants of every order of size alike.

        Args:
            count: How many.
            fitting: Share that is drawn as the tenant's own vectors are; the others are drawn as those of any row.
            seed: Another seed, other queries of the same tenants.
        """
        rng = np.random.default_rng((self.seed, 2, seed))
        sizes = self.sizes
        wanted = np.exp(rng.uniform(math.log(self.least), math.log(self.most), count))
        asked = np.abs(np.log(sizes[None, :] / wanted[:, None])).argmin(axis=1)
        fits = rng.random(count) < fitting
        like = np.where(fits, asked, rng.choice(self.count, count, p=sizes / sizes.sum()))
        return Filtered(self._drawn(like, rng), tuple(asked.tolist()), fits | (like == asked))

    def _drawn(self, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        fixed = np.random.default_rng(self.seed)
        centres = _unit(fixed.normal(size=(self.topics, self.width)).astype(np.float32))
        weights = (np.arange(1, self.width + 1) ** -0.5).astype(np.float32)
        weights = fixed.permuted(np.tile(weights / np.linalg.norm(weights), (self.topics, 1)), axis=1)
        topics = fixed.integers(0, self.topics, (self.count, self.topics_each))
        chosen = topics[groups, rng.integers(0, self.topics_each, len(groups))]
        noise = rng.standard_normal((len(groups), self.width), dtype=np.float32)
        return _unit(centres[chosen] + self.spread * weights[chosen] * noise)


QUICK_TENANTS = Tenants(count=30, least=10, most=2000, topics=40)  # 4,284 rows: for a look, and for tests


def vector_database(
    connection: psycopg.Connection, data: Filtered, *, table: str = "doc", group: str = "section", memory: str = "1GB"
) -> Loaded:
    """Make a table `(id, group, embedding)` with a b-tree on the group and an HNSW index by cosine.

    Args:
        connection: In autocommit mode; the extension is made where it is missing.
        data: The rows; the id of each is its place.
        table: Name of the table.
        group: Name of the column that queries filter on.
        memory: `maintenance_work_mem` while the indexes are built; the graph should fit in it.
    """
    kind, width = ("integer" if isinstance(data.groups[0], int) else "text"), data.vectors.shape[1]
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(connection)
    times = [time.perf_counter()]
    with connection.transaction():  # whole or not at all
        connection.execute(f"SET LOCAL maintenance_work_mem = '{memory}'")
        connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, {group} {kind}, embedding vector({width}))")
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "int4" if kind == "integer" else "text", "vector"])
            for row in zip(range(len(data.groups)), data.groups, data.vectors, strict=True):
                copy.write_row(row)
        times.append(time.perf_counter())
        for index in (f"({group})", "USING hnsw (embedding vector_cosine_ops)"):
            connection.execute(f"CREATE INDEX ON {table} {index}")
            times.append(time.perf_counter())
    connection.execute(f"VACUUM (ANALYZE) {table}")
    times.append(time.perf_counter())
    return Loaded(len(data.groups), *np.diff(times).tolist())


def nearest(data: Filtered, queries: Filtered, count: int = 10, *, is_filtered: bool = True) -> np.ndarray:
    """Return the ids that an exact search finds, (n, count), -1 where a group has fewer: the truth of recall."""
    found = np.full((len(queries.groups), count), -1)
    groups = np.array(data.groups)
    rows_of = {group: np.flatnonzero(groups == group) for group in set(queries.groups)} if is_filtered else {}
    for place, (group, vector) in enumerate(zip(queries.groups, queries.vectors, strict=True)):
        rows = rows_of[group] if is_filtered else np.arange(len(groups))
        cosines = data.vectors[rows] @ vector
        best = np.argsort(-cosines, kind="stable")[:count]
        found[place, : len(best)] = rows[best]
    return found


def recall(data: Filtered, queries: Filtered, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the share of what `nearest` finds that was found, (n,); one as near as the last of it counts alike.

    Args:
        data: The rows.
        queries: What was asked.
        found: The ids of each answer, (n, k) with -1 for none; a row outside the group must not be among them.
        truth: The ids of the exact answers, (n, k).
    """
    shares = np.ones(len(truth))
    for place, vector in enumerate(queries.vectors):
        exact, given = truth[place][truth[place] >= 0], found[place][found[place] >= 0]
        if len(exact):
            last = (data.vectors[exact] @ vector).min()
            shares[place] = min(1.0, (data.vectors[given] @ vector >= last - _TIE).sum() / len(exact))
    return shares


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
