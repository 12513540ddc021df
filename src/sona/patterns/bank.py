"""The ReasoningBank: which requests are alike, and what worked for them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sona.checks import finite, fraction, vector, whole
from sona.config import PatternConfig
from sona.errors import DimensionMismatch, InvalidValue, StoreError
from sona.patterns.agglomerate import Centroids, agglomerate, centroids_by_id
from sona.patterns.catalog import Catalog, PatternMatch, PatternRecord, Sighting
from sona.patterns.extract import FREE, SPENT, Draft, ExtractionResult, Requests, extract
from sona.patterns.ring import UNCOUNTED, AddOutcome, TrajectoryRing
from sona.patterns.saved import config_from_state, config_state, records_from_state, records_state
from sona.patterns.verdict import Choice, Verdict, judge
from sona.state import State
from sona.trajectory import Place
from sona.types import LearnedPattern, QueryTrajectory


class ReasoningBank:
    """A ring of trajectories and the patterns found in them; every trajectory is counted in one pattern, once.

    The query alone decides the pattern, the outcome alone its quality: neither is ever mixed into the other.
    One thread adds, extracts and tends the bank; `search`, `get_pattern` and `patterns` may be called from any
    thread meanwhile, as they read one published set of patterns that is replaced whole.

    >>> bank = ReasoningBank(PatternConfig(min_cluster_size=2))
    >>> for i, query in enumerate([[1.0, 0.0], [0.99, 0.01], [0.0, 1.0], [0.01, 0.99]]):
    ...     outcome = bank.add_trajectory(QueryTrajectory(i, np.array(query), final_quality=0.9))
    >>> bank.extract_patterns(now=0.0, rng=np.random.default_rng(0)).new
    2
    >>> [round(match.similarity, 3) for match in bank.find_similar([1.0, 0.0], 1)]
    [1.0]
    """

    def __init__(self, config: PatternConfig | None = None, *, hidden_dim: int | None = None) -> None:
        """Start empty; the width of queries is `hidden_dim`, or that of the first trajectory."""
        self.config = config if config is not None else PatternConfig()
        self._given_width = None if hidden_dim is None else whole(hidden_dim, "hidden_dim", 1)
        self._next_id = 0
        self.clear()

    def clear(self) -> None:
        """Forget all trajectories and patterns; ids of patterns are still never used again."""
        self._width = self._given_width
        self._ring = TrajectoryRing(self.config.capacity)
        self._survivors: dict[int, int] = {}  # merged pattern -> the one that took it in
        self._apart: Centroids = {}  # no two of them are as alike as `_apart_at`
        self._apart_at = 1.0
        self._fresh = 0  # trajectories added since the last extraction
        self._publish(())

    def go_on_after(self, earlier: ReasoningBank) -> None:
        """Give patterns ids beyond those `earlier` has given."""
        self._next_id = earlier._next_id

    def copy(self) -> ReasoningBank:
        """Return a bank equal to this one; a later change of either leaves the other as it was.

        Trajectories, records and the search index are shared, as none of them ever changes.
        """
        twin = copy.copy(self)
        twin._ring, twin._catalog = self._ring.copy(), self._catalog.copy()
        return twin

    def _publish(self, records: Iterable[PatternRecord]) -> None:
        self._catalog = Catalog(records, exact_limit=self.config.exact_search_limit)

    @property
    def hidden_dim(self) -> int | None:
        """Width d of queries; None until the first one."""
        return self._width

    @property
    def trajectory_count(self) -> int:
        """Trajectories in the ring, at most `capacity`."""
        return len(self._ring)

    @property
    def waiting_count(self) -> int:
        """Trajectories in the ring that no pattern has counted yet."""
        return self._ring.uncounted

    @property
    def pattern_count(self) -> int:
        """Patterns known."""
        return len(self._catalog)

    @property
    def patterns(self) -> tuple[LearnedPattern, ...]:
        """The patterns, oldest id first."""
        return tuple(record.pattern for record in self._catalog.records)

    # -- trajectories -----------------------------------------------------------------------------------------

    def add_trajectory(self, trajectory: QueryTrajectory, at: Place | None = None) -> AddOutcome:
        """Keep a trajectory; a full ring drops its oldest one, whose pattern goes on counting it.

        Args:
            trajectory: One request.
            at: Where it lies already, to lie there for the bank, too.

        Returns:
            ADDED; AMENDED when it supersedes the version held, whose outcome is then taken out of its pattern
            exactly; REPEATED when its id is held and nothing is amended; EXPIRED when it amends a trajectory
            that has left the ring. The last two change nothing.

        Raises:
            DimensionMismatch: the query has another width than those before.
            InvalidValue: not a trajectory.
        """
        if not isinstance(trajectory, QueryTrajectory):
            raise InvalidValue(f"trajectory: expected a QueryTrajectory, got {type(trajectory).__name__}")
        if self._width is not None and trajectory.hidden_dim != self._width:
            raise DimensionMismatch(self._width, trajectory.hidden_dim, "query_embedding")
        held = self._ring.held(trajectory.id)
        outcome = self._ring.add(trajectory, at)
        if outcome is AddOutcome.ADDED:
            self._width = trajectory.hidden_dim
            self._fresh += 1
        elif outcome is AddOutcome.AMENDED and held is not None:
            self._correct(trajectory.id, held.quality, trajectory.quality)
        return outcome

    def _correct(self, trajectory_id: int, before: float | None, after: float | None) -> None:
        record = self._catalog.get(self._ring.owner_of(trajectory_id))
        if record is not None and before != after:
            self._catalog.renew(record.with_tally(record.tally.remove(before).add(after)))

    def held(self, trajectory_id: int) -> QueryTrajectory | None:
        """Return the version in the ring of a trajectory; None when there is none."""
        return self._ring.held(trajectory_id)

    def trajectories_of(self, pattern_id: int) -> tuple[QueryTrajectory, ...]:
        """Return the trajectories of a pattern that are still in the ring, by id.

        Raises:
            InvalidValue: no such pattern.
        """
        return self._ring.members(self._record(pattern_id).pattern.id)

    # -- patterns ---------------------------------------------------------------------------------------------

    def extract_patterns(self, *, now: float, rng: np.random.Generator) -> ExtractionResult:
        """Count every waiting trajectory into the pattern it belongs to, making new ones where requests gather.

        A trajectory joins the pattern whose centroid, or one of whose requests, is `consolidation_similarity`
        alike; the rest are clustered by k-means++ on their directions. A cluster too small, and strangers in
        a cluster, wait for more. Without a new trajectory since the last time there is nothing to do, so the same data
        give the same patterns however often they are extracted.

        Args:
            now: The caller's clock, seconds.
            rng: Source of chance.

        Raises:
            PatternExtractionError: clustering gave numbers that are not finite; nothing was changed.
        """
        now = finite(now, "now")
        if self._fresh == 0:
            return self._idle()
        catalog = self._catalog
        owners = self._ring.owners
        rows = [FREE if owner == UNCOUNTED else catalog.row_of.get(owner, SPENT) for owner in owners]
        requests = Requests.of(self._ring.queries, self._ring.qualities, rows)
        draft = Draft(catalog.records, requests, self.config, next_id=self._next_id, now=now)
        result = extract(draft, rng)
        self._commit(draft, rows)
        over = self.prune(min_quality=0.0) if self.pattern_count > self.config.max_patterns else 0
        return replace(result, patterns=result.patterns - over)

    def _idle(self) -> ExtractionResult:
        return ExtractionResult(
            new=0,
            merged=0,
            joined=0,
            clustered=0,
            waiting=self.waiting_count,
            patterns=self.pattern_count,
            skipped_reason="no trajectory is new since the last extraction",
            inertia=None,
        )

    def _commit(self, draft: Draft, before: list[int]) -> None:
        for trajectory_id, old, new in zip(self._ring.ids, before, draft.requests.owner.tolist(), strict=True):
            if old == FREE and new != FREE:
                self._ring.count(trajectory_id, draft.records[new].pattern.id)
        self._next_id = draft.next_id
        self._fresh = 0
        self._publish(draft.records)

    def search(self, query: npt.ArrayLike, k: int = 5, *, min_confidence: float = 0.0) -> list[PatternMatch]:
        """Return the `k` patterns whose centroids are most similar to `query`, best first; nothing is touched.

        Args:
            query: Shape (d,).
            k: Patterns wanted.
            min_confidence: Only patterns at least this confident, in [0, 1].

        Raises:
            DimensionMismatch: `query` has another width than the bank.
            InvalidValue: NaN or infinity, `k` below 1, or a confidence outside [0, 1].
        """
        return self.seek(query, k, min_confidence=min_confidence).matches()

    def seek(self, query: npt.ArrayLike, k: int = 5, *, min_confidence: float = 0.0) -> Sighting:
        """Return where `search` finds what it returns; it takes and raises the same."""
        catalog = self._catalog
        if type(k) is not int or k < 1:  # the usual case costs no call
            k = whole(k, "k", 1)
        if min_confidence != 0.0:
            fraction(min_confidence, "min_confidence")
        if not catalog.row_of:
            vector(query, self._width, "query")
        return catalog.seek(query, k, min_confidence)

    def find_similar(
        self, query: npt.ArrayLike, k: int = 5, *, now: float = 0.0, min_confidence: float = 0.0
    ) -> list[PatternMatch]:
        """Return what `search` returns, and count an access at `now` (seconds) for each pattern returned.

        Raises:
            DimensionMismatch: `query` has another width than the bank.
            InvalidValue: NaN or infinity, `k` below 1, or a confidence outside [0, 1]; nothing is touched.
        """
        now = finite(now, "now")
        return self.seek(query, k, min_confidence=min_confidence).touched(now, counts=True)[0]

    def holds(self, sighting: Sighting) -> bool:
        """Return True when a sighting is of the patterns there are now: what it counts is counted here."""
        return sighting.catalog is self._catalog

    def touch(self, pattern_ids: Iterable[int], *, now: float = 0.0) -> None:
        """Count an access at `now` (seconds) for each of these patterns; unknown ones are left out."""
        survivors = self._survivors
        if survivors:
            pattern_ids = [survivors.get(pattern_id, pattern_id) for pattern_id in pattern_ids]
        self._catalog.touch(pattern_ids, now)

    def take_accesses(self, since: ReasoningBank, until: ReasoningBank) -> None:
        """Count here, in a bank that grew out of `since`, the accesses that `until` counted since it was `since`.

        Those of a pattern that was merged here go to the one that took it in; of one that is gone, nowhere.
        """
        for record in until._catalog.records:
            known = since._catalog.get(record.pattern.id)
            own = self._catalog.get(self._survivors.get(record.pattern.id, record.pattern.id))
            accesses = 0 if known is None else record.pattern.access_count - known.pattern.access_count
            if accesses and own is not None:
                latest = max(own.pattern.last_accessed, record.pattern.last_accessed)
                total = own.pattern.access_count + accesses
                pattern = replace(own.pattern, access_count=total, last_accessed=latest)
                self._catalog.renew(replace(own, pattern=pattern))

    def get_pattern(self, pattern_id: int) -> LearnedPattern | None:
        """Return a pattern, or the one it was merged into; None when it is unknown or was pruned."""
        record = self._catalog.get(self._survivors.get(pattern_id, pattern_id))
        return None if record is None else record.pattern

    def _record(self, pattern_id: int) -> PatternRecord:
        record = self._catalog.get(self._survivors.get(pattern_id, pattern_id))
        if record is None:
            raise InvalidValue(f"pattern id: no pattern {pattern_id!r} is known here")
        return record

    def confidence(self, pattern_id: int) -> float:
        """Return (1 - standard deviation of the outcomes) (1 - 1 / (n + 1)), n the outcomes known.

        Raises:
            InvalidValue: no such pattern.
        """
        return self._record(pattern_id).tally.confidence

    def verdict(self, pattern_id: int, *, default: Choice | None = None, kind: str = "auto") -> Verdict:
        """Return which choice serves a pattern best against the default, and how sure that is.

        See `sona.patterns.verdict.judge` for `default` and `kind`; the trajectories still in the ring testify.

        Raises:
            InvalidValue: no such pattern.
        """
        record = self._record(pattern_id)
        members = self.trajectories_of(pattern_id)
        return judge(members, record.pattern.id, default=default, kind=kind, alpha=self.config.verdict_alpha)

    def verdicts(self, *, default: Choice | None = None, kind: str = "auto") -> tuple[Verdict, ...]:
        """Return the verdict of every pattern, oldest id first."""
        return tuple(self.verdict(pattern.id, default=default, kind=kind) for pattern in self.patterns)

    # -- tending ----------------------------------------------------------------------------------------------

    def consolidate(self, similarity: float | None = None) -> int:
        """Merge patterns until no two are `similarity` alike, and return how many were taken in by others.

        Args:
            similarity: Cosine in [-1, 1]; `consolidation_similarity` when None.

        Raises:
            InvalidValue: a similarity outside [-1, 1].
        """
        limit = self.config.consolidation_similarity if similarity is None else finite(similarity, "similarity")
        if not -1.0 <= limit <= 1.0:
            raise InvalidValue(f"similarity: expected a cosine in [-1, 1], got {similarity!r}")
        known = self._apart if limit >= self._apart_at else {}
        done = agglomerate(self._catalog.records, limit, apart=known)
        self._apart, self._apart_at = centroids_by_id(done.records), limit
        if not done.survivors:
            return 0
        self._ring.merge(done.survivors)
        earlier = {old: done.survivors.get(new, new) for old, new in self._survivors.items()}
        self._survivors = earlier | done.survivors
        self._publish(done.records)
        return len(done.survivors)

    def prune(self, *, min_quality: float | None = None, min_accesses: int = 5, max_patterns: int | None = None) -> int:
        """Drop patterns that are both poor and unused, then the least valuable beyond a number; return how many.

        What they counted stays counted: their trajectories do not make the same pattern again. A pattern none of
        whose outcomes is known has neutral quality.

        Args:
            min_quality: Poorer is poor, in [0, 1]; `quality_threshold` when None.
            min_accesses: Fewer is unused.
            max_patterns: Most patterns kept, by weight x quality x (1 + accesses); the setting when None.

        Raises:
            InvalidValue: an argument outside its range.
        """
        least = self.config.quality_threshold if min_quality is None else fraction(min_quality, "min_quality")
        whole(min_accesses, "min_accesses", 0)
        most = self.config.max_patterns if max_patterns is None else whole(max_patterns, "max_patterns", 0)
        records = self._catalog.records
        sound = [record for record in records if not record.pattern.should_prune(least, min_accesses)]
        best = sorted(sound, key=lambda record: (-record.value, record.pattern.id))[:most]
        if len(best) == len(records):
            return 0
        kept = {record.pattern.id for record in best}
        self._ring.keep_patterns(kept)
        self._survivors = {old: new for old, new in self._survivors.items() if new in kept}
        self._publish(record for record in records if record.pattern.id in kept)
        return len(records) - len(kept)

    def decay(self, factor: float) -> None:
        """Multiply the weight of every pattern by `factor` in [0, 1].

        Raises:
            InvalidValue: a factor outside [0, 1].
        """
        fraction(factor, "factor")
        faded = [replace(record, pattern=record.pattern.decay(factor)) for record in self._catalog.records]
        limit = self.config.exact_search_limit
        self._catalog = Catalog(faded, exact_limit=limit, index=self._catalog.index)

    def state(self) -> State:
        """Return everything the bank holds and has learned, settings included."""
        survivors = sorted(self._survivors.items())
        return State(
            {
                "config": config_state(self.config),
                "given_width": self._given_width or 0,
                "width": self._width or 0,
                "next_id": self._next_id,
                "fresh": self._fresh,
                "survivors": np.array(survivors, np.int64).reshape(len(survivors), 2),
                "patterns": records_state(self._catalog.records),
                "ring": self._ring.state(),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> ReasoningBank:
        """Return the bank that `state()` described, bit for bit.

        Raises:
            StoreError: the state is damaged.
        """
        bank = cls(config_from_state(state.child("config")), hidden_dim=state.whole("given_width") or None)
        bank._width = state.whole("width") or None
        bank._next_id, bank._fresh = state.whole("next_id"), state.whole("fresh")
        bank._survivors = {int(old): int(new) for old, new in state.wholes("survivors", None, 2)}
        bank._publish(records_from_state(state.child("patterns"), bank._width))
        bank._ring = TrajectoryRing.from_state(state.child("ring"), bank.config.capacity, bank._catalog.row_of)
        if any(trajectory.hidden_dim != bank._width for trajectory in bank._ring.trajectories):
            raise StoreError("saved state: the bank's trajectories are of another width than the bank")
        return bank
