"""What of an engine outlives a request: its machine, its file, and the thread that works in the background."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy.typing as npt

from sona.checks import Floats, embedding
from sona.config import SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.events import CycleFailed, DeepFailed, Dropped, Event, Flushed, Indexed, Shaped
from sona.engine.intake import Intake
from sona.engine.journal import Journal, read_machine
from sona.engine.learner import Learner
from sona.engine.machine import Machine
from sona.engine.memories import Memories
from sona.engine.saved import config_from_state, config_from_text, config_state, config_text
from sona.engine.turns import Turns, usual_turns
from sona.engine.words import Words
from sona.engine.worker import Worker
from sona.errors import ConfigError, StoreError
from sona.patterns.bank import ReasoningBank
from sona.state import State, read_state, write_state
from sona.stores import Durability, Store
from sona.text.embed import Embedder, EmbedFunction, Encoder
from sona.text.respond import Responder, RespondFunction
from sona.trajectory import OpenTrajectories

_log = logging.getLogger("sona")
_STATE_KIND = "engine"
LEASE = "loops"
"""The task that one of several processes that share a store has alone."""
_WORTH_A_SNAPSHOT = 200  # events since the last one that make closing write another


class Durable:
    """An engine's machine and how it is kept: in memory, saved and loaded, or open on a file.

    Args:
        config: Every setting.
        embedder: What turns words into vectors.
        responder: What answers from memories.
        clock: Seconds since the epoch.
        store: Where the log of everything that happens is kept; nowhere when None.
    """

    def __init__(
        self,
        config: SonaConfig | None = None,
        *,
        embedder: Embedder | Encoder | EmbedFunction | None = None,
        responder: Responder | RespondFunction | None = None,
        clock: Callable[[], float] = time.time,
        store: Store | None = None,
    ) -> None:
        """Make an untrained engine, or with a store the one whose log it holds."""
        self._clock = clock
        self._embedder, self._responder = embedder, responder
        # One cycle at a time, as long as it takes; one learner, briefly; one event, for an instant. In this order.
        self._cycle_lock, self._lock, self._log_lock = threading.RLock(), threading.RLock(), threading.RLock()
        self._turns = Turns(usual_turns())  # taken before any lock, and by nobody who holds one
        self._recent: Candidates | None = None
        self._worker: Worker | None = None
        self._is_stopping = False
        self._holder = f"{os.getpid()} {secrets.token_hex(8)}"  # of a lease, where several processes share a store
        self._open = OpenTrajectories(1.0, 1)
        self._attach(config, store)

    def _attach(self, config: SonaConfig | None, store: Store | None) -> None:
        self.config = config or SonaConfig()
        if store is None:
            self._use(self._fresh(_seeded_key(self.config)), Journal(None))
            return
        self._revive(store, config)
        if not store.is_read_only:  # else what is unfinished may be so in the process that writes
            self._tidy_up()

    def _revive(self, store: Store, config: SonaConfig | None = None) -> None:
        self.config, key = _settings(store, config)
        if store.snapshot() is None:
            _require_embedder(store, is_built_in=self._embedder is None)
        last = store.last_seq  # a reader beside a writer keeps to what was there when it came
        machine, after = read_machine(store, lambda: self._fresh(key), self._revived, until=last)
        self._use(machine, Journal(store, last, after))

    def _fresh(self, key: bytes) -> Machine:
        return Machine(self.config, Words(self.config, self._embedder, self._responder), key)

    def _revived(self, state: State) -> Machine:
        try:
            words = Words.from_state(state.child("words"), self.config, self._embedder, self._responder)
            return Machine.from_state(state, self.config, words)
        except ValueError as error:  # a value out of its range
            raise StoreError(f"saved state: {error}") from error

    def _use(self, machine: Machine, journal: Journal) -> None:
        self._machine, self._journal = machine, journal
        self._open = OpenTrajectories(self.config.trajectory_ttl_s, self.config.served_capacity)

    def _tidy_up(self) -> None:
        # What a process left unfinished ends here: trajectories begun by hand, and a cycle of Loop B.
        machine, now = self._machine, self._clock()
        if machine.cycle is not None:
            self._happen(CycleFailed(now, "the process ended while it was computed"))
        if machine.deep_cycle is not None:
            self._happen(DeepFailed(now, "the process ended while it was computed"))
        if machine.intake.begun:
            self._happen(Dropped(now, machine.intake.begun, is_expired=True))

    def _happen(self, event: Event) -> int:
        # For events that need no more care than to be logged and applied at once; return the position.
        with self._lock, self._log_lock:
            seq = self._journal.append(event)
            self._machine.apply(event, seq)
            return seq

    def _happen_now(self, event: Event) -> None:
        # For what touches nothing that learning reads, and so does not wait for it.
        with self._log_lock:
            self._machine.apply(event, self._journal.append(event, is_acknowledged=False))

    def _note_decisions(self) -> None:
        for decided in self._machine.versions.told():
            _log.warning("%s: version %d, %s", decided.decision, decided.version, decided.reason)
            self._happen(decided)

    def _for_width(self, width: int) -> Learner:
        learner = self._learner
        while learner is None:
            with self._lock:
                if self._learner is None:
                    self._happen(Shaped(self._clock(), width))
                learner = self._learner
        return learner

    def _request(self, x: npt.ArrayLike) -> Floats:
        return embedding(x, self.hidden_dim, "x")

    def _asked(self, x: npt.ArrayLike) -> tuple[Floats, Learner]:
        request = self._request(x)
        return request, self._for_width(request.shape[0])

    # -- parts, to look at -----------------------------------------------------------------------------------------

    @property
    def _learner(self) -> Learner | None:
        return self._machine.learner

    @property
    def _intake(self) -> Intake:
        return self._machine.intake

    @property
    def _memories(self) -> Memories:
        return self._machine.memories

    @property
    def hidden_dim(self) -> int | None:
        """Width d of embeddings; None until the first vector shows it."""
        machine = self._machine
        return machine.memories.width if machine.learner is None else machine.learner.hidden_dim

    @property
    def bank(self) -> ReasoningBank:
        """The patterns found so far; to look at, as Loop B alone changes them. Empty before the first vector."""
        learner = self._learner
        return ReasoningBank(self.config.patterns) if learner is None else learner.bank

    @property
    def embedder(self) -> Embedder:
        """What turns words into vectors."""
        return self._machine.words.embedder

    # -- files -----------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything needed to come back bit for bit."""
        with self._cycle_lock, self._lock, self._log_lock:
            config, machine = config_state(self.config), self._machine.state()
            return State({"config": config, "machine": machine, "events": self._journal.seq})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything known to the file `path`, atomically: a crash leaves the old file or the new one.

        It holds what was learned and not the log; `SonaEngine.load` reads it.

        Raises:
            StoreError: it cannot be written; an earlier file is untouched.
        """
        from sona.stores import is_store  # imported here: `import sona` stays quick

        if is_store(path):
            raise StoreError(f"{path} holds an engine with its log; save to another file")
        write_state(path, _STATE_KIND, self.state())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | Encoder | EmbedFunction | None = None,
        responder: Responder | RespondFunction | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Return the engine that `save` wrote or that lives in a file, in memory; its answers are equal bit for bit.

        The file stays as it is, and another process may have it open.

        Args:
            path: The file.
            embedder: The one it was made with, when that was the caller's own.
            responder: What answers from memories.
            clock: Seconds since the epoch.

        Raises:
            StoreError: missing, damaged, truncated, of another format version, or it needs its embedder.
        """
        from sona.stores import is_store  # imported here: `import sona` stays quick

        if is_store(path):
            return cls._looking(Path(path), embedder=embedder, responder=responder, clock=clock)
        state = read_state(path, _STATE_KIND)
        config = config_from_state(state.child("config"))
        engine = cls(config, responder=responder, clock=clock)
        engine._embedder = embedder
        engine._use(engine._revived(state.child("machine")), Journal(None, state.whole("events")))
        engine._tidy_up()
        return engine

    @classmethod
    def _looking(
        cls,
        path: Path,
        *,
        embedder: Embedder | Encoder | EmbedFunction | None,
        responder: Responder | RespondFunction | None,
        clock: Callable[[], float],
    ) -> Self:
        from sona.stores.sqlite import SqliteStore  # imported here: `import sona` stays quick

        store = SqliteStore(path, is_read_only=True)
        try:
            engine = cls(_settings(store, None)[0], responder=responder, clock=clock)
            engine._embedder = embedder
            engine._revive(store)
        finally:
            store.close()
        engine._journal = Journal(None, engine._journal.seq)
        engine._tidy_up()
        return engine

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        config: SonaConfig | None = None,
        *,
        embedder: Embedder | Encoder | EmbedFunction | None = None,
        responder: Responder | RespondFunction | None = None,
        clock: Callable[[], float] = time.time,
        durability: str = Durability.BATCHED,
    ) -> Self:
        """Return the engine that lives in the file `path`, made when there is none.

        Everything that happens is logged there by a thread of its own; a crash leaves the log up to its end, and
        opening it again gives the state that follows from it. Only one process at a time may have it open.

        Args:
            path: The file; its folder must exist.
            config: Settings of a new file; of an old one, the same or None.
            embedder: As in the constructor.
            responder: As in the constructor.
            clock: Seconds since the epoch.
            durability: What may be lost at most: `relaxed`, `batched` or `strict`; see docs/stores.md.

        Raises:
            StoreError: the file cannot be read or written, or another process has it open.
            ConfigError: `config` is not what the file was made with, or there is no such durability.
        """
        if durability not in tuple(Durability):
            raise ConfigError(f"durability: expected one of {', '.join(Durability)}, got {durability!r}")
        from sona.stores.sqlite import SqliteStore  # imported here: `import sona` stays quick

        store = SqliteStore(Path(path), durability=Durability(durability))
        try:
            return cls(config, embedder=embedder, responder=responder, clock=clock, store=store)
        except BaseException:
            store.close()
            raise

    def index(self) -> int:
        """Embed the memories that wait for it, fitting the default embedder when it is due; return how many."""
        with self._lock:
            machine = self._machine
            if not machine.memories.waiting_count:
                return 0
            prepared = machine.prepare_index()
            is_built_in = machine.words.is_built_in
            event = Indexed(self._clock()) if is_built_in else Indexed(self._clock(), prepared.made, prepared.ids)
            if machine.learner is None and len(prepared.vectors):
                self._happen(Shaped(event.at, prepared.vectors.shape[1]))
            with self._log_lock:
                self._journal.append(event)
                return machine.index(event, prepared)

    def stop_background(self) -> None:
        """Stop the background thread, if it runs, and wait for a cycle in progress; one of Loop C is cut short."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            self._is_stopping = True
            try:
                worker.stop()
            finally:
                self._is_stopping = False

    def flush(self) -> None:
        """Embed waiting memories, apply waiting signals, and write what waits to be written."""
        self.index()
        learner = self._learner
        if learner is not None and learner.micro.pending_updates:
            self._happen(Flushed(self._clock()))
        store = self._journal.store
        if store is not None:
            if self._journal.is_snapshot_due:
                self._keep_snapshot()
            store.flush()

    def _keep_snapshot(self) -> None:
        with self._cycle_lock:
            with self._lock, self._log_lock:
                snapshot = self._journal.snapshot(self._machine, self._clock())
            self._journal.keep(snapshot)

    def close(self) -> None:
        """Stop the background thread and, when opened on a file, write what waits and let go. May be called twice."""
        self.stop_background()
        store = self._journal.store
        if store is None:
            return
        try:
            self.flush()
            if self._journal.since_snapshot >= _WORTH_A_SNAPSHOT:
                self._keep_snapshot()
            if not store.is_read_only:
                store.release(LEASE, self._holder)
        finally:
            self._journal = Journal(None, self._journal.seq)
            store.close()

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine, keeping what was learned even when the block failed."""
        self.close()


def _seeded_key(config: SonaConfig) -> bytes:
    return (config.guard.key or f"seed {config.seed}").encode()


def _require_embedder(store: Store, *, is_built_in: bool) -> None:
    # A log of the built-in embedder holds words where another one holds vectors.
    kind, kept = "built-in" if is_built_in else "given", store.setting("embedder")
    if kept is None and store.is_read_only:
        return
    if kept is None:
        store.set_setting("embedder", kind)
    elif kept != kind:
        needed = "one of your own; give it" if is_built_in else "the built-in one; give none"
        raise StoreError(f"the file was made with another embedder, {needed}")


def _settings(store: Store, config: SonaConfig | None) -> tuple[SonaConfig, bytes]:
    # A store remembers the settings it was made with, and the secret that decides who is held out.
    kept, key = store.setting("config"), store.setting("key")
    if kept is None or key is None:
        chosen = config or SonaConfig()
        key = chosen.guard.key or secrets.token_hex(16)
        store.set_setting("config", config_text(chosen))
        store.set_setting("key", key)
        return chosen, key.encode()
    settings = config_from_text(kept)
    if config is not None and config != settings:
        raise ConfigError("the file was made with other settings; open it without config")
    return settings, key.encode()
