"""Searches on a server: with the settings of an arm, with the policy, and checked in one snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import psycopg
from psycopg import IsolationLevel

from servers import Filtered
from sona.tuner.searches.arms import EXACT, SearchArm, search_arms
from sona.tuner.searches.checks import ArmRun, SearchCheck, SearchKey
from sona.tuner.searches.fit import Survey, Surveyed, fit
from sona.tuner.searches.policy import SearchPolicy

LIMIT = 10
ARMS = search_arms("hnsw")
_TIE = 1e-6  # of a cosine distance


@dataclass(frozen=True)
class Answer:
    """What a search returned, and the seconds until it was there, sending its settings included."""

    ids: list[int]
    distances: list[float]
    time_s: float


@dataclass
class Spent:
    """Seconds that learning took, by what they went to, and counts."""

    served_s: float = 0.0
    check_s: float = 0.0
    survey_s: float = 0.0
    checks: int = 0
    surveys: int = 0
    early: int = 0
    recalls: list[float] = field(default_factory=list)


class Table:
    """One table of vectors, asked with or without its filter."""

    def __init__(self, connection: psycopg.Connection, name: str, group: str | None) -> None:
        """Ask this table by cosine; `group` is the column to filter on, None for no filter."""
        self.connection, self.name, self.group = connection, name, group
        where = f"WHERE {group} = %s" if group else ""
        self.sql = f"SELECT id, embedding <=> %s FROM {name} {where} ORDER BY embedding <=> %s LIMIT {LIMIT}"

    def search(self, value: object, vector: np.ndarray, arm: SearchArm) -> Answer:
        """Run one search in a transaction of its own; the server's own choice is sent no settings."""
        with self.connection.transaction():
            return self.within(value, vector, arm)

    def within(self, value: object, vector: np.ndarray, arm: SearchArm) -> Answer:
        """Run one search in the transaction that is open."""
        began = time.perf_counter()
        if arm.params.settings:
            settings = arm.params.settings.items()
            self.connection.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings))
        rows = self.connection.execute(self.sql, [vector, *([value] if self.group else []), vector]).fetchall()
        taken = time.perf_counter() - began
        return Answer([row[0] for row in rows], [row[1] for row in rows], taken)

    def survey(self, value: object = None) -> Surveyed:
        """Ask about the rows that pass the filter, or about the whole table."""
        row = self.connection.execute("SELECT reltuples FROM pg_class WHERE relname = %s", [self.name]).fetchone()
        filters = () if value is None else (self.group,)
        asked = Survey(self.name, "embedding", filters, row[0])
        return Surveyed.of(*self.connection.execute(asked.sql, [] if value is None else [value, value]).fetchone())


class Driver:
    """A policy at work on one table: what a session does for an application, without one."""

    def __init__(self, table: Table, policy: SearchPolicy, seed: int = 0) -> None:
        """Begin with a survey of the table."""
        self.table, self.policy, self.spent = table, policy, Spent()
        self.rng = np.random.default_rng(seed)
        self.whole = table.survey()
        self.known: dict[object, Surveyed] = {}
        self.checked: list[tuple[SearchKey, SearchCheck]] = []

    def key(self, value: object, vector: np.ndarray) -> SearchKey:
        """Return what a search is known by; a filter value is surveyed when it is first seen."""
        if self.table.group is None:
            return SearchKey(self.table.name, "", LIMIT, self.whole.rows)
        if value not in self.known:
            began = time.perf_counter()
            self.known[value] = self.table.survey(value)
            self.spent.survey_s += time.perf_counter() - began
            self.spent.surveys += 1
        rows = self.known[value]
        return SearchKey(self.table.name, str(value), LIMIT, rows.rows, fit(vector, rows, self.whole, limit=LIMIT))

    def serve(self, value: object, vector: np.ndarray, *, is_learning: bool) -> Answer:
        """Run a search as the policy chooses; while it learns, count it and check it when it should be."""
        began = time.perf_counter()
        key = self.key(value, vector)
        choice = self.policy.choose(key, self.rng)
        chosen_s = time.perf_counter() - began
        answer = self.table.search(value, vector, choice.arm)
        if is_learning:
            self.spent.served_s += answer.time_s
            self.spent.early += choice.reason.startswith("too little")
            self.policy.observe(key, choice.arm, answer.time_s)
            if choice.is_check:
                self._check(key, value, vector)
        return Answer(answer.ids, answer.distances, answer.time_s + chosen_s)

    def _check(self, key: SearchKey, value: object, vector: np.ndarray) -> None:
        began = time.perf_counter()
        self.table.connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with self.table.connection.transaction():
            check = self._measured(key, value, vector)
        self.table.connection.isolation_level = None
        self.policy.learn(key, check)
        self.checked.append((key, check))
        self.spent.check_s += time.perf_counter() - began
        self.spent.checks += 1

    def _measured(self, key: SearchKey, value: object, vector: np.ndarray) -> SearchCheck:
        exact = self.table.within(value, vector, EXACT)
        runs = []
        for arm in self.policy.arms_to_check(key):
            for setting in ("enable_indexscan", "hnsw.ef_search", "hnsw.iterative_scan"):
                self.table.connection.execute(f"SET LOCAL {setting} TO DEFAULT")
            found = self.table.within(value, vector, arm)
            last = exact.distances[-1] + _TIE if exact.distances else 0.0
            near = sum(distance <= last for distance in found.distances)
            share = min(1.0, near / len(exact.distances)) if exact.distances else 1.0
            runs.append(ArmRun(arm.name, share, len(found.ids), found.time_s))
        return SearchCheck(len(exact.ids), exact.time_s, tuple(runs))


def shuffled(checked: list[tuple[SearchKey, SearchCheck]], seed: int = 0) -> SearchPolicy:
    """Return a policy that was told, for each arm, the recalls of other searches: it learned from nothing."""
    rng = np.random.default_rng(seed)
    told: dict[str, list[float]] = {}
    for _, check in checked:
        for run in check.runs:
            told.setdefault(run.arm, []).append(run.recall)
    left = {arm: rng.permutation(recalls).tolist() for arm, recalls in told.items()}
    policy = SearchPolicy()
    for key, check in checked:
        runs = tuple(ArmRun(run.arm, left[run.arm].pop(), run.rows, run.time_s) for run in check.runs)
        policy.learn(key, SearchCheck(check.exact_rows, check.exact_time_s, runs))
    return policy


def part(queries: Filtered, rows: slice) -> Filtered:
    """Return these queries alone."""
    return Filtered(queries.vectors[rows], queries.groups[rows], queries.fits[rows])
