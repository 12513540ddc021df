"""What an engine can be held to: is it better, why this answer, what changed, go back, forget, rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sona.checks import nonempty_text, whole
from sona.config import GUARD_MODES
from sona.engine.durable import Durable
from sona.engine.events import Decided, ModeSet, Noted, Reembedded, RolledBack
from sona.engine.journal import decoded, read_machine, replay
from sona.engine.learner import Learner
from sona.engine.machine import Machine
from sona.engine.versions import Difference, VersionRecord, difference, summary_of
from sona.engine.words import Words
from sona.errors import InvalidValue, StateError
from sona.guard.report import Report
from sona.state import digest
from sona.stores.store import Store
from sona.text.embed import Embedder, EmbedFunction, Encoder

if TYPE_CHECKING:
    from sona.engine.explain import Explanation
    from sona.engine.forgetting import Forgotten


@dataclass(frozen=True, slots=True)
class Replay:
    """What rebuilding the state from the log gave.

    Args:
        events: Events that happened again.
        digest: SHA-256 of the state in use.
        rebuilt: SHA-256 of the rebuilt one.
    """

    events: int
    digest: str
    rebuilt: str

    @property
    def is_equal(self) -> bool:
        """True when both states are equal bit for bit."""
        return self.digest == self.rebuilt


class Accountable(Durable):
    """An engine that shows its work."""

    # -- is it better ----------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """Return whether learning improves answers, with the interval, what is behind it, and what is still needed.

        The interval is valid at every look: look as often as you like.
        """
        with self._lock:
            machine = self._machine
            return machine.guard.report()

    @property
    def mode(self) -> str:
        """The guard's mode: `off`, `shadow`, `canary` or `on`."""
        return self._machine.guard.mode

    def set_mode(self, mode: str) -> None:
        """Change the guard's mode now; `off` is the kill switch: answers are frozen and nothing is learned.

        Raises:
            InvalidValue: there is no such mode.
        """
        if mode not in GUARD_MODES:
            raise InvalidValue(f"mode: expected one of {', '.join(GUARD_MODES)}, got {mode!r}")
        self._journal.wait(self._happen(ModeSet(self._clock(), mode)))

    # -- versions --------------------------------------------------------------------------------------------------

    def versions(self) -> tuple[VersionRecord, ...]:
        """Return the versions committed so far, oldest first."""
        return self._machine.versions.listed

    @property
    def version(self) -> int:
        """The version in force; 0 is the untrained one."""
        return self._machine.versions.in_force

    def decisions(self) -> tuple[Decided, ...]:
        """Return what the guard decided of late, oldest first: rejected candidates and rollbacks, with reasons."""
        with self._lock:
            return self._machine.versions.decisions

    def diff(self, a: int, b: int) -> Difference:
        """Return what version `b` holds otherwise than version `a`.

        Raises:
            InvalidValue: there is no such version.
        """
        learner = self._machine.learner
        untrained = {} if learner is None else summary_of(Learner(learner.hidden_dim, learner.config))
        return difference(self._machine.versions, a, b, untrained)

    def rollback(self, version: int, *, reason: str = "by hand") -> None:
        """Answer as an earlier version did; what was recorded since stays recorded.

        Args:
            version: 0 for the untrained one.
            reason: Why, for the log.

        Raises:
            InvalidValue: there is none, or its state is not kept any more.
        """
        whole(version, "version", 0)
        with self._cycle_lock, self._lock:
            self._machine.versions.checkpoint(version)
            seq = self._happen(RolledBack(self._clock(), version, nonempty_text(reason, "reason")))
            self._machine.versions.told()
        self._journal.wait(seq)

    # -- why -------------------------------------------------------------------------------------------------------

    def explain(self, trajectory_id: int) -> Explanation:
        """Return why a request was answered as it was: similarity, adapters, votes and the requests behind them.

        With a log, from the state of that moment, rebuilt; else from the present one, which the explanation says.

        Raises:
            UnknownTrajectory: it is neither held nor in the log.
        """
        from sona.engine.explain import explain  # imported when it is asked for: `import sona` stays quick

        wanted = whole(trajectory_id, "trajectory_id", 0)
        store = self._journal.store
        machine, is_exact = self._machine, False
        if store is not None and store.whole_after == 0:
            store.flush()
            served = next(iter(store.events(trajectory_id=wanted)), None)
            if served is not None and served.kind == "answered":
                machine, _ = read_machine(store, self._blank, self._revived, until=served.seq)
                is_exact = True
        with self._lock:
            held = self._machine.intake.served.get(wanted)
            return explain(machine, wanted, is_exact=is_exact, outcome=None if held is None else held.outcome)

    # -- the log ---------------------------------------------------------------------------------------------------

    def _require_log(self, purpose: str) -> Store:
        store = self._journal.store
        if store is None:
            raise StateError(f"{purpose} needs the log; open the engine on a file, or give it a store")
        if self._journal.has_hole:
            raise StateError(f"{purpose} needs the whole log, and some of it could not be written yet; flush first")
        if store.whole_after:
            raise StateError(
                f"{purpose} needs the whole log, and events before {store.whole_after} could not be written"
            )
        return store

    def _blank(self) -> Machine:
        now = self._machine
        present = None if now.words.is_built_in else Words(self.config, now.words.embedder, self._responder)
        first = Words(self.config, None, self._responder) if now.began_built_in or present is None else present
        machine = Machine(self.config, first, now.key)
        machine.successor = present
        return machine

    def replay(self) -> Replay:
        """Rebuild the state from the log, and compare it with the one in use, bit for bit.

        Raises:
            StateError: there is no log, or it has a hole.
            StoreError: the log is damaged.
        """
        store = self._require_log("replay")
        with self._cycle_lock:
            with self._lock, self._log_lock:
                seq, in_use = self._journal.seq, digest(self._machine.state())
            store.flush()
            machine = self._blank()
            count = replay(machine, store, until=seq)
            return Replay(count, in_use, digest(machine.state()))

    def forget(self, subject: str) -> Forgotten:
        """Forget somebody: their memories, requests and feedback go, and everything learned is rebuilt without them.

        The state is equal, bit for bit, to one that never saw them, and nothing of theirs is left in the file.
        The log is gone through while answers go on; requests wait while the file is rewritten.

        Raises:
            InvalidValue: an empty name.
            StateError: there is no log, or it has a hole.
            StoreError: the file cannot be written; nothing was forgotten.
        """
        from sona.engine.forgetting import Without  # as above

        nonempty_text(subject, "subject")
        store = self._require_log("forget")
        with self._cycle_lock:
            store.flush()
            machine, log = self._blank(), Without(subject)
            seq = self._journal.seq
            machine.replay(decoded(machine, log.filtered(store.events(until=seq)), store))
            with self._lock, self._log_lock:
                store.flush()
                machine.replay(decoded(machine, log.filtered(store.events(after=seq)), store))
                snapshot = self._journal.snapshot(machine, self._clock())
                store.erase(log.erased, log.replaced, snapshot)
                self._journal.rewritten(snapshot)
                last_id = self._machine.intake.ids.last
                self._machine, self._recent = machine, None
                self._happen(Noted(self._clock(), "a subject was forgotten", last_id))
        return log.result

    def reembed(self, embedder: Embedder | Encoder | EmbedFunction) -> int:
        """Let another embedder take over; return how many memories it embedded.

        Memories and past requests that have words get new vectors; what was learned of words stays. Adapters,
        calibration and patterns, which are about vectors, start anew, as do votes of requests without words.

        Raises:
            InvalidValue: not an embedder, or vectors that cannot be used; nothing changed.
        """
        words = Words(self.config, embedder, self._responder)
        if words.is_built_in:
            raise InvalidValue("embedder: the built-in one is fitted by the engine as memories grow; give another")
        with self._cycle_lock, self._lock:
            machine = self._machine
            texts: Sequence[str] = () if machine.learner is None else machine.learner.votes.texts
            memories = machine.memories.texts
            vectors = words.embedder.embed(list(memories)) if memories else np.zeros((0, 0), np.float32)
            requests = words.embedder.embed(list(texts)) if texts else np.zeros((0, vectors.shape[1]), np.float32)
            event = Reembedded(self._clock(), vectors, tuple(texts), requests, machine.memories.ids)
            with self._log_lock:
                seq = self._journal.append(event)
                machine.successor = words
                machine.reembed(event)
                self._embedder = embedder
            self._keep_snapshot()  # from here on the file opens with the new embedder
        self._journal.wait(seq)
        return len(memories)
