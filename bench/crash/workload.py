"""What a process is busy with when it is killed: threads that ask, judge, remember, learn, flush and forget."""

from __future__ import annotations

import os
import random
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sona import Context, GuardConfig, InvalidValue, PatternConfig, SonaConfig, SonaEngine
from sona.stores import SqliteStore

D, ITEMS, SHOWN = 12, 16, 6
IDS = tuple(f"d{number}" for number in range(ITEMS))
VECTORS = np.random.default_rng(1).normal(size=(ITEMS, D)).astype(np.float32)
VECTORS.flags.writeable = False
REQUESTS = np.random.default_rng(2).normal(size=(40, D)).astype(np.float32)
WORDS = ("reset", "pay", "close", "track", "change", "password", "invoice", "account", "parcel", "order", "card")
CONFIG = SonaConfig(
    hidden_dim=D,
    min_trajectories=10,
    context_size=4,
    patterns=PatternConfig(min_cluster_size=3),
    guard=GuardConfig(warm_up=20, holdout=0.1),
)
SOMEBODY = "zq7-somebody"  # who is to be forgotten: in every text and name of theirs, and nowhere else
_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One life of a process.

    Args:
        path: The engine's file.
        durability: At what level it is opened.
        seed: What it does follows from this, but for the turns of its threads.
        is_forgetting: Whether it forgets somebody.
        has_own_embedder: Whether the engine is given an embedder, or fits its own on the memories.
    """

    path: Path
    durability: str
    seed: int
    is_forgetting: bool = False
    has_own_embedder: bool = True


def embedded(texts: list[str]) -> np.ndarray:
    """Return a vector for each text that depends on its words alone, shape (n, D)."""
    return np.array([sum(_drawn(word) for word in text.split()) for text in texts], np.float32)


def _drawn(word: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=D)


def opened(plan: Plan, kind: type[SonaEngine] = SonaEngine) -> SonaEngine:
    """Return the engine in the plan's file."""
    embedder = embedded if plan.has_own_embedder else None
    return kind.open(plan.path, CONFIG, embedder=embedder, durability=plan.durability)


class Busy:
    """Uses an engine from several threads until the process dies, and writes down what it was told.

    Args:
        plan: What to do.
        out: File descriptor; a line is written as soon as a call has returned, and never waits in this process.
    """

    def __init__(self, plan: Plan, out: int) -> None:
        """Open the engine."""
        self._plan, self._out = plan, out
        self._engine = opened(plan)
        self._tell("opened")

    def _tell(self, kind: str, key: object = "-", value: object = "-") -> None:
        words = "\t".join((kind, str(key), str(value), repr(time.monotonic())))
        os.write(self._out, f"{words}\n".encode())  # one line, at once and whole

    def run(self) -> None:
        """Keep all threads busy."""
        tasks = (self._serve, self._serve, self._answer, self._write, self._write, self._tend, self._somebody)
        for number, task in enumerate(tasks):
            # Writers come with the same texts, as two users of one engine may.
            seed = self._plan.seed if task == self._write else 100 * self._plan.seed + number
            threading.Thread(target=self._keep, args=(task, random.Random(seed)), daemon=True).start()
        time.sleep(_LONGEST_S)

    def _keep(self, task: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            while True:
                task(chance)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            self._tell("error", type(error).__name__, str(error).replace("\t", " ").replace("\n", " "))

    # -- one turn of each thread -----------------------------------------------------------------------------------

    def _serve(self, chance: random.Random, subject: str | None = None) -> None:
        who = Context(user_id=subject or f"u{chance.randrange(30)}")
        ranking = self._engine.rank(REQUESTS[chance.randrange(len(REQUESTS))], IDS, VECTORS, SHOWN, context=who)
        for _ in range(2 if chance.random() < 0.1 else 1):  # a second time it amends, or repeats
            item, reward = ranking.ids[chance.randrange(2)], chance.choice((0.5, 1.0))
            self._engine.feedback(ranking.trajectory_id, rewards={item: reward})
            self._tell("judged", ranking.trajectory_id, f"{item}={reward} {subject or ''}")

    def _answer(self, chance: random.Random, subject: str | None = None) -> None:
        query = f"{subject or ''} {_sentence(chance)}"
        response = self._engine.process(query, Context(user_id=subject or f"u{chance.randrange(30)}"))
        quality = chance.choice((0.0, 0.25, 1.0))
        self._engine.feedback(response.trajectory_id, quality=quality)
        self._tell("judged", response.trajectory_id, f"quality={quality} {subject or ''}")

    def _write(self, chance: random.Random) -> None:
        name = f"m{chance.randrange(10**9)}"
        self._engine.remember(f"{_sentence(chance)} {name}", name)
        self._tell("remembered", name)
        if chance.random() < 0.5:
            with self._engine.begin_trajectory(REQUESTS[chance.randrange(len(REQUESTS))]) as builder:
                builder.add_step(VECTORS[chance.randrange(ITEMS)], reward=chance.random())
            self._tell("submitted", builder.id)
        else:
            self._engine.begin_trajectory(REQUESTS[0])  # never finished
        time.sleep(0.005)

    def _tend(self, chance: random.Random) -> None:
        time.sleep(chance.uniform(0.0, 0.06))
        engine, deed = self._engine, chance.random()
        if deed < 0.4:
            result = engine.background_learn(force=True)
            listed = {record.id: record for record in engine.versions()}
            if result.skipped_reason is None and result.version in listed:
                self._tell("version", result.version, listed[result.version].digest)
        elif deed < 0.7:
            began = time.monotonic()
            engine.flush()
            self._tell("flushed", "-", repr(began))
        elif deed < 0.9:
            engine.tick()
            engine.find_patterns(REQUESTS[0])
        else:
            self._go_back(chance)

    def _go_back(self, chance: random.Random) -> None:
        reason = f"r{chance.randrange(10**9)}"
        try:
            self._engine.rollback(self._engine.version, reason=reason)
        except InvalidValue:  # forgetting has just put other versions in place
            return
        self._tell("rolledback", reason)

    def _somebody(self, chance: random.Random) -> None:
        engine, until = self._engine, time.monotonic() + chance.uniform(0.05, 0.2)
        while time.monotonic() < until:
            name = f"{SOMEBODY}-{chance.randrange(10**9)}"
            engine.remember(f"{name} {_sentence(chance)}", name, subject=SOMEBODY)
            self._tell("remembered", name)
            self._serve(chance, SOMEBODY)
            self._answer(chance, SOMEBODY)
            time.sleep(0.01)
        if self._plan.is_forgetting:
            self._forget()

    def _forget(self) -> None:
        store = self._engine._journal.store
        if isinstance(store, SqliteStore):
            erase = store.erase
            store.erase = lambda *what: (self._tell("erasing"), erase(*what))[1]  # type: ignore[method-assign]
        self._tell("forgetting")
        self._engine.forget(SOMEBODY)
        self._tell("forgotten")
        time.sleep(_LONGEST_S)


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(4))
