"""One request while it happens: the builder, and the registry that keeps forgotten ones from leaking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, fraction, setting_number, setting_whole, vector, whole
from sona.errors import StateError
from sona.kernel import kept, maker
from sona.types import (
    LARGEST_ID,
    NO_PARAMETERS,
    NO_WEIGHTS,
    QueryTrajectory,
    TrajectoryStep,
    make_step,
    make_trajectory,
    require_settings,
    require_text_or_none,
    texts,
)


def _kept(value: npt.ArrayLike, width: int | None, what: str) -> Floats:
    # A trajectory never changes afterwards: what the caller could still write to is copied, read-only is shared.
    array = kept(value, width)
    if array is None:
        array = vector(value, width, what)
        if array.flags.writeable and (array is value or array.base is not None):
            array = array.copy()
    return array


def _weights(value: npt.ArrayLike) -> Floats:
    return NO_WEIGHTS if np.size(value) == 0 else _kept(value, None, "attention_weights")


class TrajectoryBuilder:
    """Collects the steps of one request and becomes its trajectory.

    Vectors are copied, except read-only arrays (`array.flags.writeable` False), which are shared: mark the
    vectors of items read-only and a thousand requests that show the same item hold it once.

    >>> builder = TrajectoryBuilder(7, [1.0, 0.0])
    >>> builder.add_step([0.0, 1.0], reward=1.0, ref="doc-3")
    >>> trajectory = builder.build(final_quality=0.9)
    >>> trajectory.id, len(trajectory.steps), trajectory.final_quality
    (7, 1, 0.9)
    """

    __slots__ = (
        "_abandoned",
        "_alternatives",
        "_built",
        "_clock",
        "_context_ids",
        "_model_route",
        "_on_exit",
        "_parameters",
        "_quality",
        "_query",
        "_started",
        "_steps",
        "_subject",
        "_width",
        "id",
    )

    def __init__(
        self,
        id: int,  # noqa: A002 - the trajectory's own word for it
        query_embedding: npt.ArrayLike,
        *,
        clock: Callable[[], float] = time.monotonic,
        alternatives: bool = False,
        model_route: str | None = None,
        context_ids: Iterable[str] = (),
        subject: str | None = None,
        parameters: Mapping[str, float | str] | None = None,
        on_exit: Callable[[TrajectoryBuilder, bool], None] | None = None,
    ) -> None:
        """Start the clock of one request.

        Args:
            id: Id of the trajectory, unique within its engine.
            query_embedding: The request, shape (d,).
            clock: Seconds that never go back.
            alternatives: True when the steps are alternatives of one decision (a ranking).
            model_route: The model or route that answers, if any.
            context_ids: Ids of the memories given as context.
            subject: Who asked, if known.
            parameters: Settings the request is served with, by name.
            on_exit: Called with the builder, and whether the block failed, when a `with` block ends.

        Raises:
            InvalidValue: a negative id, a query that is empty or holds NaN or infinity, a name that is not text, or a
                parameter that is neither number nor text.
        """
        self.id = whole(id, "trajectory id", 0, LARGEST_ID)
        self._query = _kept(query_embedding, None, "query_embedding")
        self._width: int = self._query.shape[0]
        self._alternatives = alternatives
        if model_route is not None or subject is not None:
            require_text_or_none(model_route, "model_route")
            require_text_or_none(subject, "subject")
        self._model_route = model_route
        self._context_ids = texts(context_ids, "context_ids") if context_ids else ()
        self._subject = subject
        if parameters:
            require_settings(parameters, "parameters")
        self._parameters = dict(parameters) if parameters else NO_PARAMETERS
        self._on_exit = on_exit
        self._steps: list[TrajectoryStep] = []
        self._quality: float | None = None
        self._built = False
        self._abandoned = False
        self._clock = clock
        self._started = clock()

    def add_step(
        self,
        activations: npt.ArrayLike,
        attention_weights: npt.ArrayLike | None = None,
        reward: float | None = None,
        *,
        ref: str | None = None,
    ) -> None:
        """Append one alternative or action; a refused step leaves the builder as it was.

        Args:
            activations: Vector of what was tried, shape (d,).
            attention_weights: The policy's weights, shape (m,), if it had any.
            reward: What it earned, in [0, 1]; None when nobody said yet.
            ref: Id of what was tried.

        Raises:
            StateError: the trajectory is already built or abandoned.
            DimensionMismatch: another width than the query.
            InvalidValue: NaN, infinity, or a reward outside [0, 1].
        """
        if self._built or self._abandoned:
            raise self._closed("add a step to")
        tried = kept(activations, self._width)
        if tried is None:
            tried = _kept(activations, self._width, "activations")
        weights = NO_WEIGHTS if attention_weights is None else _weights(attention_weights)
        if reward is not None and not (reward.__class__ is float and 0.0 <= reward <= 1.0):
            reward = fraction(reward, "reward")
        if ref is not None:
            require_text_or_none(ref, "ref")
        self._steps.append(make_step(tried, weights, reward, self._clock() - self._started, ref))

    def finish(self, quality: float | None = None) -> None:
        """Set the outcome that `build` uses when it is given none; the last call counts.

        Raises:
            StateError: the trajectory is already built or abandoned.
            InvalidValue: a quality outside [0, 1].
        """
        if self._built or self._abandoned:
            raise self._closed("finish")
        self._quality = None if quality is None else fraction(quality, "quality")

    def build(self, final_quality: float | None = None) -> QueryTrajectory:
        """Return the trajectory, once; nothing can be added afterwards.

        Args:
            final_quality: Quality of the whole in [0, 1]; what `finish` was given when None.

        Raises:
            StateError: it was built or abandoned before.
            InvalidValue: a quality outside [0, 1]; the builder stays open.
        """
        if self._built or self._abandoned:
            raise self._closed("build")
        trajectory = make_trajectory(  # every field was checked when it came
            self.id,
            self._query,
            tuple(self._steps),
            self._quality if final_quality is None else fraction(final_quality, "final_quality"),
            (self._clock() - self._started) * 1e6,
            self._alternatives,
            self._model_route,
            self._context_ids,
            self._subject,
            self._parameters,
            None,
        )
        self._built = True
        return trajectory

    def abandon(self) -> None:
        """Give the request up: no trajectory comes of it; harmless when it is finished already."""
        self._abandoned = not self._built

    def _closed(self, verb: str) -> StateError:
        was = "built" if self._built else "abandoned"
        return StateError(f"cannot {verb} trajectory {self.id}: it was {was} before")

    @property
    def query_embedding(self) -> Floats:
        """The request, shape (d,)."""
        return self._query

    @property
    def context_ids(self) -> tuple[str, ...]:
        """Ids of the memories given as context."""
        return self._context_ids

    @property
    def step_count(self) -> int:
        """Steps added so far."""
        return len(self._steps)

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return self._clock() - self._started

    @property
    def quality(self) -> float | None:
        """The outcome set by `finish`, else None."""
        return self._quality

    @property
    def is_finished(self) -> bool:
        """True once built or abandoned."""
        return self._built or self._abandoned

    def __enter__(self) -> TrajectoryBuilder:
        """Return the builder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abandon the request when the block failed; then call `on_exit`. The exception goes on."""
        if kind is not None:
            self.abandon()
        if self._on_exit is not None:
            self._on_exit(self, kind is not None)


_SLOTS = (
    "id",
    "_query",
    "_width",
    "_clock",
    "_started",
    "_on_exit",
    "_steps",
    "_alternatives",
    "_model_route",
    "_context_ids",
    "_subject",
    "_parameters",
    "_quality",
    "_built",
    "_abandoned",
)
_make_builder = maker(TrajectoryBuilder, _SLOTS)


def begun(query: Floats, *, on_exit: Callable[[TrajectoryBuilder, bool], None]) -> TrajectoryBuilder:
    """Return a builder of a request of which nothing but its vector is known: checked, read-only, shape (d,).

    It has id 0 until its caller gives it one.
    """
    clock, steps = time.monotonic, []  # type: ignore[var-annotated]
    return _make_builder(
        0,
        query,
        query.shape[0],
        clock,
        clock(),
        on_exit,
        steps,
        False,
        None,
        (),
        None,
        NO_PARAMETERS,
        None,
        False,
        False,
    )


class OpenTrajectories:
    """The unfinished builders of one engine: a forgotten one is abandoned and counted, never leaked."""

    __slots__ = ("_builders", "_capacity", "_expired", "_latest", "_lock", "_ttl_s")

    def __init__(self, ttl_s: float, capacity: int) -> None:
        """Make an empty registry.

        Args:
            ttl_s: Seconds after which an unfinished builder is given up.
            capacity: Most builders held; the oldest makes room.

        Raises:
            ConfigError: `ttl_s` is not above 0, or `capacity` not at least 1.
        """
        setting_number(ttl_s, "ttl_s", 0.0, open_low=True)
        setting_whole(capacity, "capacity", 1)
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._builders: dict[int, tuple[TrajectoryBuilder, float]] = {}  # in the order of their times
        self._latest = -float("inf")
        self._expired = 0
        self._lock = threading.Lock()

    def add(self, builder: TrajectoryBuilder, now: float) -> None:
        """Hold `builder` from `now` (seconds) on; when full, the oldest is abandoned and counted.

        Raises:
            StateError: a builder of the same id is held already.
        """
        with self._lock:
            if builder.id in self._builders:
                raise StateError(f"trajectory {builder.id} is open already")
            if len(self._builders) >= self._capacity:
                self._drop_oldest()
            self._latest = max(self._latest, now)  # a clock that steps back is taken as standing still
            self._builders[builder.id] = (builder, self._latest)

    def __contains__(self, builder: TrajectoryBuilder) -> bool:
        """Return True when this very builder is held, not merely one of the same id."""
        held = self._builders.get(builder.id)
        return held is not None and held[0] is builder

    def pop(self, id: int) -> TrajectoryBuilder | None:  # noqa: A002 - as in the builder
        """Return the builder of `id` and let it go; None when it is not held."""
        with self._lock:
            held = self._builders.pop(id, None)
        return None if held is None else held[0]

    def expire(self, now: float) -> int:
        """Abandon every builder older than the set time at `now` (seconds); return how many were."""
        with self._lock:
            before = self._expired
            while self._builders and now - next(iter(self._builders.values()))[1] > self._ttl_s:
                self._drop_oldest()
            return self._expired - before

    def _drop_oldest(self) -> None:
        builder, _ = self._builders.pop(next(iter(self._builders)))
        if not builder.is_finished:
            builder.abandon()
            self._expired += 1

    @property
    def expired_count(self) -> int:
        """Builders abandoned here, ever: too old, or the oldest when full."""
        return self._expired

    def __len__(self) -> int:
        """Return the number of builders held."""
        return len(self._builders)
