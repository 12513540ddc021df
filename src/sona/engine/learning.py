"""Learning from what was done elsewhere, and the rhythm of Loop B."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy.typing as npt

from sona import kernel
from sona.checks import whole
from sona.engine.accountable import Accountable
from sona.engine.events import Begun, CycleBegun, CycleEnded, CycleFailed, Dropped, Submitted, Touched
from sona.engine.metrics import SonaMetrics
from sona.errors import InvalidValue, StateError, StoreError
from sona.guard.rehearsal import Rehearsal
from sona.loops.background import BackgroundChange, BackgroundResult
from sona.loops.coordinator import LoopCoordinator
from sona.loops.cycle import Cycle
from sona.loops.instant import InstantResult
from sona.patterns.catalog import PatternMatch, Sighting
from sona.trajectory import TrajectoryBuilder, begun
from sona.types import QueryTrajectory

_log = logging.getLogger("sona")
_begun, _submitted, _touched = kernel.maker(Begun), kernel.maker(Submitted), kernel.maker(Touched)


class Learning(Accountable):
    """An engine that learns from trajectories recorded by hand, and consolidates in the background."""

    # -- trajectories ----------------------------------------------------------------------------------------------

    def begin_trajectory(
        self,
        x: npt.ArrayLike,
        *,
        alternatives: bool = False,
        model_route: str | None = None,
        context_ids: Iterable[str] = (),
        subject: str | None = None,
        parameters: Mapping[str, float | str] | None = None,
    ) -> TrajectoryBuilder:
        """Start recording one request; finish it with `end_trajectory`, or use it as a context manager.

        Args:
            x: The request, shape (d,).
            alternatives: True when the steps are alternatives of one decision.
            model_route: The model or route that answers, if any.
            context_ids: Ids of the memories given as context.
            subject: Who asks.
            parameters: Settings the request is served with, by name.

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: NaN, infinity, no numbers, or a name that is not text.
        """
        learner = self._machine.learner
        request = None if learner is None else kernel.kept(x, learner.hidden_dim)
        is_plain = model_route is None and subject is None and not (alternatives or context_ids or parameters)
        if request is None or not is_plain:
            builder = TrajectoryBuilder(
                0,
                self._request(x) if request is None else request,
                alternatives=alternatives,
                model_route=model_route,
                context_ids=context_ids,
                subject=subject,
                parameters=parameters,
                on_exit=self._on_exit,
            )
            self._for_width(builder.query_embedding.shape[0])
        else:
            builder = begun(request, on_exit=self._on_exit)
        with self._log_lock:
            intake = self._machine.intake
            builder.id = intake.ids.next()  # after every check: what is refused uses up no id
            now = self._clock()
            context = builder.context_ids
            self._journal.append(_begun(now, builder.id, subject, context), is_acknowledged=False)
            intake.begin(builder.id, now, context)
            self._open.add(builder, now)
        return builder

    def _on_exit(self, builder: TrajectoryBuilder, failed: bool) -> None:
        if failed:
            if self._open.pop(builder.id) is not None:
                self._happen_now(Dropped(self._clock(), (builder.id,), is_expired=False))
        elif not builder.is_finished:
            self.end_trajectory(builder, builder.quality)

    def end_trajectory(self, builder: TrajectoryBuilder, quality: float | None = None) -> InstantResult:
        """Finish a trajectory and learn from it.

        Args:
            builder: As `begin_trajectory` returned it.
            quality: How good the whole was, in [0, 1]; None when nobody said.

        Raises:
            InvalidValue: a quality outside [0, 1]; the trajectory stays open.
            StateError: the trajectory is finished already, was given up, or was begun elsewhere.
        """
        if builder not in self._open and not builder.is_finished:
            raise StateError(f"trajectory {builder.id} was not begun by this engine; end it where it began")
        trajectory = builder.build(quality)
        self._open.pop(builder.id)
        return self._submit(trajectory)

    def submit_trajectory(self, trajectory: QueryTrajectory) -> InstantResult:
        """Learn from a finished trajectory; one with an id learned from before counts once.

        Raises:
            DimensionMismatch: it is of another width.
        """
        if not isinstance(trajectory, QueryTrajectory):
            raise InvalidValue(f"trajectory: expected a QueryTrajectory, got {type(trajectory).__name__}")
        self._asked(trajectory.query_embedding)
        self._open.pop(trajectory.id)
        return self._submit(trajectory)

    def _submit(self, trajectory: QueryTrajectory) -> InstantResult:
        event = _submitted(self._clock(), trajectory)
        with self._lock, self._log_lock:
            seq = self._journal.append(event)
            result = self._machine.submit(event)
        self._journal.wait(seq)
        return result

    # -- patterns and loops ----------------------------------------------------------------------------------------

    def find_patterns(self, x: npt.ArrayLike, k: int = 5) -> list[PatternMatch]:
        """Return the `k` patterns most like the request `x`, shape (d,), best first; each counts an access."""
        learner = self._machine.learner
        if learner is None or not kernel.is_vector(x, learner.hidden_dim):
            whole(k, "k", 1)  # what is refused decides no width
            x, learner = self._asked(x)
        found = learner.bank.seek(x, k)
        if not found.rows:
            return []
        now = self._clock()
        if not self._lock.acquire(blocking=False):
            matches, ids = found.touched(now, counts=False)
            self._happen_now(Touched(now, ids))
        else:
            try:
                matches = self._count(found, now)
            finally:
                self._lock.release()
        if self._machine.is_touched:
            self._settle()
        return matches

    def _count(self, found: Sighting, now: float) -> list[PatternMatch]:
        # Nobody is learning: what is found in the patterns there are is counted at once.
        machine = self._machine
        is_current = machine.holds(found)
        matches, ids = found.touched(now, counts=is_current)
        event = _touched(now, ids)
        with self._log_lock:
            self._journal.append(event, is_acknowledged=False)
            if not is_current:
                machine.touch(event)
        return matches

    def _settle(self) -> None:
        # Accesses are counted at once when nobody is learning, else by whoever learns next. Who lets go of the lock
        # looks again, as others may have come to count meanwhile.
        while self._machine.is_touched and self._lock.acquire(blocking=False):
            try:
                self._machine.settle()
            finally:
                self._lock.release()

    def background_learn(self, force: bool = False) -> BackgroundResult:
        """Run Loop B now: patterns, base adapter, EWC++; requests go on meanwhile.

        Args:
            force: Run with fewer than `min_trajectories`.

        Raises:
            LearningError: the refit failed; nothing was changed, nothing lost.
            PatternExtractionError: clustering failed; nothing was changed, nothing lost.
        """
        with self._cycle_lock:
            with self._lock:
                learner = self._learner
                reason = "no new trajectories" if learner is None else learner.loops.why_not(force=force)
                if learner is None or reason is not None:
                    return BackgroundResult(self._machine.versions.in_force, 0, reason)
                begun = CycleBegun(self._clock(), force)
                with self._log_lock:  # what touched patterns before it in the log is settled, and nothing else
                    self._journal.append(begun)
                    cycle = self._machine.begin_cycle(begun)
            if cycle.reason is not None:
                return BackgroundResult(self._machine.versions.in_force, 0, cycle.reason)
            result, seq = self._cycled(learner.loops, cycle)
            self._keep_snapshot_if_possible()
        self._journal.wait(seq)
        return result

    def _cycled(self, loops: LoopCoordinator, cycle: Cycle) -> tuple[BackgroundResult, int]:
        try:
            change = loops.compute(cycle)
        except BaseException as error:
            self._happen(CycleFailed(self._clock(), f"{type(error).__name__}: {error}"))
            raise
        with self._lock:
            ended = CycleEnded(self._clock(), change)
            rehearsal = self._rehearsed(change)
            with self._log_lock:
                seq = self._journal.append(ended)
            result = self._machine.end_cycle(ended, seq, rehearsal)
            self._note_decisions()
        return result, seq

    def _rehearsed(self, change: BackgroundChange) -> Rehearsal:
        # Before the cycle's end is in the log: what goes wrong here goes wrong whenever the log is read.
        try:
            return self._machine.rehearse(change)
        except BaseException as error:
            self._happen(CycleFailed(self._clock(), f"{type(error).__name__}: {error}"))
            raise

    def _keep_snapshot_if_possible(self) -> None:
        # The version is in force and its log waits to be written: a full disk is told by `metrics`, not by an error.
        if self._journal.store is None:
            return
        try:
            self._keep_snapshot()
        except StoreError as error:
            _log.warning("the state after the cycle is not written yet: %s", error)

    def metrics(self) -> SonaMetrics:
        """Return every counter; they go on after a restart."""
        with self._lock:
            return SonaMetrics.of(self._machine, self._journal.store, self._clock())
