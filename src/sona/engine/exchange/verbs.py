"""Giving away what an engine knows, and taking it in: memories, requests with their outcomes, patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sona.engine.events import Remembered, Submitted
from sona.engine.intake import FOREIGN_ID
from sona.engine.reorganising import Reorganising
from sona.errors import StateError
from sona.types import QueryTrajectory

if TYPE_CHECKING:  # what reads and writes files is imported by the verbs: `import sona` stays quick
    from sona.engine.exchange.folder import Contents
    from sona.engine.exchange.gather import LogReader
    from sona.engine.exchange.records import MemoryRecord

_EVENTS_AT_A_TIME = 500  # written before more are handed to the store, whose queue is bounded


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds.

    Args:
        folder: Where it is.
        format: `jsonl` or `parquet`.
        memories: Memories.
        trajectories: Requests with what was tried and how it went.
        patterns: Patterns.
        has_log: Whether those are all requests of the log; else those that were held.
    """

    folder: str
    format: str
    memories: int
    trajectories: int
    patterns: int
    has_log: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import brought.

    Args:
        memories: New ones.
        known_memories: Memories that were here already.
        renamed: New ones whose id stands for another text here; theirs has a mark of the text added.
        trajectories: Requests that were submitted.
        known: Requests that were learned from here before.
        unfinished: Answers that had no feedback yet.
        left_out: Requests whose vectors mean nothing here, and that have no words, or show what is no memory.
        limited: Of those submitted, how many were refused because their subject gave more than its share.
    """

    memories: int = 0
    known_memories: int = 0
    renamed: int = 0
    trajectories: int = 0
    known: int = 0
    unfinished: int = 0
    left_out: int = 0
    limited: int = 0


class Exchange(Reorganising):
    """An engine that gives away what it knows, and takes in what another knew."""

    def export(self, folder: str | os.PathLike[str], *, format: str = "jsonl") -> Exported:  # noqa: A002
        """Write memories, requests and patterns to a new folder, exactly; nothing changes, and answers go on.

        With a log, all requests that are in it; else those that are held. See docs/exchange.md for the files.

        Args:
            folder: Where to; it must not hold anything yet. There, half an export is never left.
            format: `jsonl`, or `parquet` with the extra of that name.

        Raises:
            InvalidValue: no such format, or a text that it cannot hold.
            MissingExtra: the format's package is not installed.
            StoreError: the folder holds something, cannot be written, or the log is damaged.
        """
        from sona.engine.exchange.folder import write_folder
        from sona.engine.exchange.tables import require_format

        require_format(format)
        contents = self._contents(format)
        write_folder(contents, Path(folder))
        counts = len(contents.memories), len(contents.requests), len(contents.patterns)
        return Exported(os.fspath(folder), format, *counts, contents.manifest.has_log)

    def _contents(self, format: str) -> Contents:  # noqa: A002
        from sona.engine.exchange.folder import Contents, Manifest
        from sona.engine.exchange.gather import held_requests, memory_records
        from sona.engine.exchange.records import origin_of

        with self._cycle_lock:
            with self._lock, self._log_lock:
                machine, seq = self._machine, self._journal.seq
                patterns, is_built_in = self.bank.patterns, machine.words.is_built_in
                memories = memory_records(machine.memories, is_built_in=is_built_in)
                held = held_requests(machine)
            log = self._read_log(seq)
        about = Manifest(format, origin_of(machine.key), self.hidden_dim, log is not None, {})
        if log is None:
            return Contents(about, memories, held, patterns)
        owned = tuple(replace(record, subject=log.subjects.get(record.id)) for record in memories)
        return Contents(about, owned, log.requests, patterns)

    def _read_log(self, until: int) -> LogReader | None:
        try:
            store = self._require_log("reading every request")
        except StateError:
            return None
        from sona.engine.exchange.gather import LogReader

        store.flush()
        reader = LogReader(self._blank())
        reader.read(store, until)
        return reader

    def import_from(self, folder: str | os.PathLike[str], *, reembed: bool = False) -> Imported:
        """Take in what `export` wrote, each thing once, however often it comes; nothing that is here is replaced.

        Memories are remembered, a text whose id stands for another one here under an id of its own. Requests are
        submitted. Patterns are not copied: Loop B finds them in the requests. Vectors that the built-in embedder
        had made of words are made anew.

        Args:
            folder: An export.
            reembed: Make all vectors anew, because they are of another embedder than this engine's.

        Raises:
            StoreError: the export is missing, damaged or of a newer SONA; or this engine's file cannot be written.
            InvalidValue: a line that cannot be used; the message names file and line, and nothing was taken in.
            DimensionMismatch: vectors of another width than this engine's; nothing was taken in.
            StateError: learning is switched off; nothing was taken in.
        """
        from sona.engine.exchange.folder import read_folder
        from sona.engine.exchange.plan import lessons, plan

        contents = read_folder(Path(folder))
        with self._cycle_lock:
            self._require_learning(contents)
            own = self._own_ids(contents)
            with self._lock:
                memories, words = self._machine.memories, self._machine.words
                chosen = plan(
                    contents,
                    memories,
                    words,
                    width=self.hidden_dim,
                    is_known=lambda number: number in own or self._is_learned(number),
                    reembed=reembed,
                )
                self._remember_all(chosen.memories)
            if chosen.memories or chosen.requests:
                self.index()
            limited = self._submit_all(lessons(chosen.requests, memories, self._machine.words))
        new = len(chosen.memories)
        return Imported(
            memories=new,
            known_memories=len(contents.memories) - new,
            renamed=chosen.renamed,
            trajectories=len(chosen.requests),
            known=chosen.known,
            unfinished=chosen.unfinished,
            left_out=chosen.left_out,
            limited=limited,
        )

    def _require_learning(self, contents: Contents) -> None:
        if self.mode == "off" and contents.requests:
            raise StateError("learning is switched off: what is submitted now would never be learned; set another mode")

    def _own_ids(self, contents: Contents) -> set[int]:
        # What this engine gave away may come back to it, at first or second hand.
        from sona.engine.exchange.gather import held_requests
        from sona.engine.exchange.records import foreign_id, origin_of

        origin = origin_of(self._machine.key)
        is_second_hand = any(record.trajectory.id >= FOREIGN_ID for record in contents.requests)
        if contents.manifest.origin != origin and not is_second_hand:
            return set()
        log = self._read_log(self._journal.seq)
        own = held_requests(self._machine) if log is None else log.requests
        return {foreign_id(origin, record.trajectory) for record in own}

    def _is_learned(self, trajectory_id: int) -> bool:
        store = self._journal.store
        if store is None or self._machine.intake.is_submitted(trajectory_id):
            return self._machine.intake.is_submitted(trajectory_id)
        return next(iter(store.events(trajectory_id=trajectory_id)), None) is not None

    def _remember_all(self, memories: Iterable[MemoryRecord]) -> None:
        for done, memory in enumerate(memories, 1):
            if memory.vector is not None:
                self._for_width(len(memory.vector))
            self._happen(Remembered(self._clock(), memory.text, memory.id, memory.vector, memory.subject))
            self._write(done)

    def _submit_all(self, trajectories: Iterable[QueryTrajectory]) -> int:
        limited, counts = 0, self._intake.counts
        for done, trajectory in enumerate(trajectories, 1):
            learner = self._for_width(trajectory.hidden_dim)
            if learner.loops.instant.buffer.is_full:
                self.background_learn()
            event = Submitted(self._clock(), trajectory)
            with self._lock, self._log_lock:
                before = counts["limited"]
                self._journal.append(event)
                self._machine.submit(event)
                limited += counts["limited"] - before
            self._write(done)
        self._journal.wait(self._journal.seq)
        return limited

    def _write(self, done: int) -> None:
        store = self._journal.store
        if store is not None and done % _EVENTS_AT_A_TIME == 0:
            store.flush()
