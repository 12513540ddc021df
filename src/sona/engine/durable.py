"""What of an engine outlives a request: its parts, its file, and the thread that works in the background."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from sona.config import SonaConfig
from sona.engine.candidates import Candidates
from sona.engine.intake import Intake
from sona.engine.learner import Learner
from sona.engine.memories import Memories
from sona.engine.saved import config_from_state, config_state, lock_file
from sona.engine.words import Words
from sona.engine.worker import Worker
from sona.errors import ConfigError, InvalidValue, StoreError
from sona.patterns.bank import ReasoningBank
from sona.state import State, read_state, write_state
from sona.text.embed import Embedder, EmbedFunction, Encoder
from sona.text.respond import Responder, RespondFunction

_STATE_KIND = "engine"


class Durable:
    """An engine's parts and how they are kept: in memory, saved and loaded, or open on a file.

    Args:
        config: Every setting.
        embedder: What turns words into vectors.
        responder: What answers from memories.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        config: SonaConfig | None = None,
        *,
        embedder: Embedder | Encoder | EmbedFunction | None = None,
        responder: Responder | RespondFunction | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make an untrained engine that lives in memory."""
        self.config = config or SonaConfig()
        self._clock = clock
        self._words = Words(self.config, embedder, responder)
        self._memories = Memories()
        self._intake = Intake(self.config)
        self._learner = None if self.config.hidden_dim is None else Learner(self.config.hidden_dim, self.config)
        self._recent: Candidates | None = None
        # One learner at a time, briefly; one cycle of Loop B at a time, for as long as it takes.
        self._lock = threading.RLock()
        self._cycle_lock = threading.RLock()
        self._worker: Worker | None = None
        self._path: Path | None = None
        self._unlock: Callable[[], None] | None = None

    @property
    def hidden_dim(self) -> int | None:
        """Width d of embeddings; None until the first vector shows it."""
        return self._memories.width if self._learner is None else self._learner.hidden_dim

    @property
    def bank(self) -> ReasoningBank:
        """The patterns found so far; to look at, as Loop B alone changes them. Empty before the first vector."""
        learner = self._learner
        return ReasoningBank(self.config.patterns) if learner is None else learner.bank

    @property
    def embedder(self) -> Embedder:
        """What turns words into vectors."""
        return self._words.embedder

    def state(self) -> State:
        """Return everything needed to come back bit for bit; unfinished trajectories end here and are counted."""
        with self._cycle_lock, self._lock:
            parts: dict[str, State] = {
                "config": config_state(self.config),
                "words": self._words.state(),
                "memories": self._memories.state(),
                "intake": self._intake.state(),
            }
            if self._learner is not None:
                parts["learner"] = self._learner.state()
            return State(parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to the file `path`, atomically: a crash leaves the old file or the new one.

        Raises:
            StoreError: it cannot be written; an earlier file is untouched.
        """
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
        """Return the engine that was saved; its answers are equal bit for bit.

        Args:
            path: The file.
            embedder: The one it was made with, when that was the caller's own.
            responder: What answers from memories.
            clock: Seconds since the epoch.

        Raises:
            StoreError: missing, damaged, truncated, of another format version, or it needs its embedder.
        """
        state = read_state(path, _STATE_KIND)
        config = config_from_state(state.child("config"))
        words = Words.from_state(state.child("words"), config, embedder, responder)
        engine = cls(config, responder=responder, clock=clock)
        engine._words = words
        try:
            engine._restore(state)
        except (ConfigError, InvalidValue) as error:
            raise StoreError(f"{path} holds a value out of its range: {error}") from error
        return engine

    def _restore(self, state: State) -> None:
        self._memories = Memories.from_state(state.child("memories"))
        self._intake = Intake.from_state(state.child("intake"), self.config)
        if "learner" in state:
            self._learner = Learner.from_state(state.child("learner"), self.config)
            if self.config.hidden_dim not in (None, self.hidden_dim):
                raise StoreError(f"saved state: made for width {self.config.hidden_dim}, holds width {self.hidden_dim}")

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        config: SonaConfig | None = None,
        *,
        embedder: Embedder | Encoder | EmbedFunction | None = None,
        responder: Responder | RespondFunction | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Return the engine that lives in the file `path`, made when there is none.

        The file is written when the engine is closed, flushed, and after each cycle of Loop B; what came after the
        last write is lost when the process dies. Only one process at a time may have it open.

        Args:
            path: The file; its folder must exist.
            config: Settings of a new file; of an old one, the same or None.
            embedder: As in the constructor.
            responder: As in the constructor.
            clock: Seconds since the epoch.

        Raises:
            StoreError: the file cannot be read or written, or another process has it open.
            ConfigError: `config` is not what the file was made with.
        """
        target = Path(path)
        unlock = lock_file(target)
        try:
            if target.exists():
                engine = cls.load(target, embedder=embedder, responder=responder, clock=clock)
                if config is not None and config != engine.config:
                    raise ConfigError(f"{target} was made with other settings; open it without config")
            else:
                engine = cls(config, embedder=embedder, responder=responder, clock=clock)
                engine.save(target)
        except BaseException:
            unlock()
            raise
        engine._path, engine._unlock = target, unlock
        return engine

    def index(self) -> int:
        """Embed the memories that wait for it, fitting the default embedder when it is due; return how many."""
        with self._lock:
            return self._words.index(self._memories, None if self._learner is None else self._learner.votes)

    def stop_background(self) -> None:
        """Stop the background thread, if it runs, and wait for a cycle in progress."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def flush(self) -> None:
        """Embed waiting memories, apply waiting signals, and save when the engine was opened on a file."""
        self.index()
        with self._lock:
            if self._learner is not None:
                self._learner.loops.instant.flush()
        self._autosave()

    def _autosave(self) -> None:
        if self._path is not None:
            self.save(self._path)

    def close(self) -> None:
        """Stop the background thread and, when opened on a file, save and let go of it. May be called twice."""
        self.stop_background()
        try:
            if self._path is not None:
                self.flush()
        finally:
            unlock, self._unlock, self._path = self._unlock, None, None
            if unlock is not None:
                unlock()

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine, keeping what was learned even when the block failed."""
        self.close()
