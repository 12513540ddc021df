"""The instant adapter: a rank-1 or rank-2 correction that one request can move.

    x' = x + k s (x A) B,   k = min(1, rho |x| / |s (x A) B|)

A is (d, r), random; B is (r, d), zero in a new adapter; s the scale, rho the trust region.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sona.adapters.factors import Constraint, LoraGradient, LoraWeights, closer, split_flat
from sona.adapters.signal import LearningSignal
from sona.checks import Floats, contiguous, embedding, finite, setting_number, setting_whole
from sona.errors import DimensionMismatch, InvalidValue, LearningError, StoreError
from sona.kernel import LowRank
from sona.state import State

_DIVERGED = 1e6  # no useful weight is near it, and below it no correction overflows float32


class MicroLoRA:
    """A correction of rank 1 or 2 that learns within one request; a new one returns its input bit for bit.

    Readers use one published `LowRank` and never lock; one writer at a time accumulates and applies.

    >>> adapter = MicroLoRA(2, rank=1, seed=0)
    >>> x = np.array([0.6, 0.8], np.float32)
    >>> bool((adapter.forward(x) == x).all())
    True
    >>> adapter.accumulate_gradient(LearningSignal.with_gradient(x, [0.8, -0.6], 1.0)), adapter.apply_accumulated(0.1)
    (True, 1)
    >>> float(adapter.delta(x) @ [0.8, -0.6]) > 0.0
    True
    """

    __slots__ = (
        "_applied",
        "_hidden_dim",
        "_limit",
        "_pending",
        "_published",
        "_rank",
        "_scale",
        "_seed",
        "_shape",
        "_skipped",
        "_sum",
        "_trust_region",
    )

    def __init__(
        self,
        hidden_dim: int,
        rank: int = 2,
        *,
        seed: int = 0,
        trust_region: float = 0.3,
        scale: float | None = None,
    ) -> None:
        """Make an adapter that changes nothing yet.

        Args:
            hidden_dim: d, width of the embeddings.
            rank: r, 1 or 2.
            seed: Seed of A ~ N(0, 1/d).
            trust_region: rho: the correction is never longer than rho |x|; infinity switches it off.
            scale: s; sqrt(d / r) when None: then E[s^2 |x A|^2] = |x|^2, so one step of rate lr on g moves the
                correction of the same unit x by about lr g.

        Raises:
            ConfigError: a setting outside its range.
        """
        setting_whole(hidden_dim, "hidden_dim", 1)
        setting_whole(rank, "rank", 1, 2)
        setting_whole(seed, "seed", 0)
        setting_number(trust_region, "trust_region", 0.0, open_low=True)
        chosen = math.sqrt(hidden_dim / rank) if scale is None else scale
        setting_number(chosen, "scale", 0.0, _DIVERGED, open_low=True)
        self._hidden_dim, self._rank, self._seed = int(hidden_dim), int(rank), int(seed)
        self._shape = (self._hidden_dim,)
        self._trust_region, self._scale = float(trust_region), float(chosen)
        self._limit = _DIVERGED / max(self._scale, 1.0)
        self._pending = self._skipped = self._applied = 0
        self._sum: Floats | None = None
        self._published: LowRank = self._bound(self._untrained())

    def _untrained(self) -> Floats:
        d, r = self._hidden_dim, self._rank
        flat = np.zeros(2 * d * r, np.float32)
        flat[: d * r] = np.random.default_rng(self._seed).normal(0.0, 1.0 / math.sqrt(d), d * r)
        return flat

    def forward(self, x: npt.ArrayLike, out: Floats | None = None) -> Floats:
        """Return `x` corrected by the adapter; a new adapter returns `x` unchanged, bit for bit.

        Args:
            x: Embeddings, shape (d,) or (n, d).
            out: Where to write the result, float32 of the same shape; may be `x` itself.

        Returns:
            x', of the shape of `x`; `out` when it was given.

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: NaN, infinity, a length beyond float32, or an `out` that does not fit.

        Source:
            Hu et al. 2021, LoRA, eq. 3.
        """
        published = self._published
        corrected = published.forward(x, out)
        return closer(published.forward, x, self._hidden_dim, out) if corrected is None else corrected

    def delta(self, x: npt.ArrayLike, out: Floats | None = None) -> Floats:
        """Return the correction alone, as `forward`: never longer than rho |x|, zero for a new adapter."""
        published = self._published
        correction = published.delta(x, out)
        return closer(published.delta, x, self._hidden_dim, out) if correction is None else correction

    def gradient(self, x: npt.ArrayLike, g: npt.ArrayLike) -> LoraGradient:
        """Return the exact gradient of <g, x'(x)> for both factors, the direction in which it grows.

        dA = s x^T (g' B^T) and dB = s (x A)^T g', with g' = g inside the trust region. At its edge, with u the
        unit correction and k its shrink factor, g' = k (g - u (u.g)), the exact derivative; where g points
        inward (u.g < 0) g' = k g, or a saturated adapter could never come back.

        Args:
            x: One request, shape (d,).
            g: Ascent direction for x', shape (d,).

        Raises:
            DimensionMismatch: another width.
            InvalidValue: NaN, infinity, or a length beyond float32.

        Source:
            Chain rule on Hu et al. 2021, LoRA, eq. 3.
        """
        return LoraGradient(*split_flat(self.flat_gradient(x, g), self._hidden_dim, self._rank))

    def flat_gradient(self, x: npt.ArrayLike, g: npt.ArrayLike) -> Floats:
        """Return `gradient` in the layout of `flat`: ascent, shape (2 d r,)."""
        request = embedding(x, self._hidden_dim, "x")
        push = embedding(g, self._hidden_dim, "g")
        return self._flat_gradient(request, push)

    def _flat_gradient(self, request: Floats, push: Floats, base: Floats | None = None) -> Floats:
        found = self._published.gradient(request, push, base)
        if found is None:  # not plain, or not finite
            found = self._published.gradient(contiguous(request), contiguous(push), base)
        if found is None:
            raise LearningError("accumulated gradients overflow float32; this signal was not added")
        return found

    def accumulate_gradient(self, signal: LearningSignal) -> bool:
        """Add the gradient of `signal` to those waiting; False, and counted, when it is no push.

        Raises:
            DimensionMismatch: the signal is of another width.
            LearningError: the gradients overflow float32; nothing was added.
        """
        if signal.query_embedding.shape != self._shape:
            raise DimensionMismatch(self._hidden_dim, signal.query_embedding.shape[0], "query_embedding")
        if not signal.is_push:
            self._skipped += 1
            return False
        self._sum = self._flat_gradient(signal.query_embedding, signal.gradient_estimate, self._sum)
        self._pending += 1
        return True

    def apply_accumulated(self, learning_rate: float, constrain: Constraint | None = None) -> int:
        """Move the weights by `learning_rate` along the mean of the waiting gradients; return how many there were.

        Args:
            learning_rate: Step size, above 0.
            constrain: Called as `constrain(-mean_gradient, flat_weights)`, both flat and the gradient in descent
                convention (what would be subtracted); what it returns is subtracted instead.

        Raises:
            InvalidValue: a learning rate that is not finite and above 0.
            LearningError: the result is not finite, has diverged, or the constraint returned another shape. Weights
                and waiting gradients stay as they were; `discard_accumulated` drops the latter.
        """
        if finite(learning_rate, "learning_rate") <= 0.0:
            raise InvalidValue(f"learning_rate: expected a number above 0, got {learning_rate!r}")
        if self._sum is None:
            return 0
        published = self._published
        if constrain is None:
            moved = published.moved(self._sum, -float(learning_rate) / self._pending, self._limit)
        else:
            descent = np.asarray(constrain(self._sum * np.float32(-1.0 / self._pending), published.flat), np.float32)
            if descent.shape != published.flat.shape:
                expected = published.flat.shape
                raise LearningError(f"the constraint returned shape {descent.shape}, expected {expected}")
            moved = published.moved(contiguous(descent), learning_rate, self._limit)
        if moved is None:
            raise LearningError(
                "the step would leave weights that are not finite or have diverged; nothing was changed"
            )
        applied, self._pending = self._pending, 0
        self._published, self._sum = moved, None
        self._applied += applied
        return applied

    def _bound(self, flat: Floats) -> LowRank:
        return LowRank(flat, self._hidden_dim, self._rank, self._scale, self._trust_region)

    def discard_accumulated(self) -> int:
        """Drop the waiting gradients without applying them; return how many there were."""
        dropped, self._pending = self._pending, 0
        self._sum = None
        return dropped

    def reset(self) -> None:
        """Become the untrained adapter again, with nothing waiting; counters go on."""
        self.discard_accumulated()
        self._published = self._bound(self._untrained())

    def go_on_after(self, earlier: MicroLoRA) -> None:
        """Count on from where `earlier` stood."""
        self._applied, self._skipped = earlier._applied, earlier._skipped

    def fold(self) -> LoraWeights:
        """Return the weights as they are and publish zero B: their caller has absorbed them elsewhere."""
        folded, flat = self.weights, self._published.flat.copy()
        flat[self._hidden_dim * self._rank :] = 0.0
        self._published = self._bound(flat)
        return folded

    def flat(self) -> Floats:
        """Return A, then B, row by row, shape (2 d r,): the one layout of weights, gradients and Fisher; read-only."""
        return self._published.flat

    @property
    def weights(self) -> LoraWeights:
        """The published weights."""
        return LoraWeights(*split_flat(self._published.flat, self._hidden_dim, self._rank), self._scale)

    @property
    def rank(self) -> int:
        """Rank r: 1 or 2."""
        return self._rank

    @property
    def hidden_dim(self) -> int:
        """Width d of the embeddings."""
        return self._hidden_dim

    @property
    def param_count(self) -> int:
        """Number of weights, 2 d r."""
        return 2 * self._hidden_dim * self._rank

    @property
    def scale(self) -> float:
        """Scale s of the correction."""
        return self._scale

    @property
    def trust_region(self) -> float:
        """rho: the correction is never longer than rho |x|."""
        return self._trust_region

    @property
    def pending_updates(self) -> int:
        """Signals accumulated and not yet applied."""
        return self._pending

    @property
    def skipped_count(self) -> int:
        """Signals that were no push, ever."""
        return self._skipped

    @property
    def applied_count(self) -> int:
        """Signals applied, ever."""
        return self._applied

    def state(self) -> State:
        """Return all that `from_state` needs to go on: weights, waiting gradients, settings and counters."""
        return State(
            {
                "hidden_dim": self._hidden_dim,
                "rank": self._rank,
                "seed": self._seed,
                "trust_region": self._trust_region,
                "scale": self._scale,
                "pending": self._pending,
                "skipped": self._skipped,
                "applied": self._applied,
                "weights": self._published.flat,
                "sum": np.zeros(self.param_count, np.float32) if self._sum is None else self._sum,
            }
        )

    @classmethod
    def from_state(cls, state: State) -> MicroLoRA:
        """Return the adapter that `state` was taken from; it answers bit for bit as that one did.

        Raises:
            StoreError: the state is incomplete or of another kind.
        """
        adapter = cls(
            state.whole("hidden_dim"),
            state.whole("rank"),
            seed=state.whole("seed"),
            trust_region=state.number("trust_region"),
            scale=state.number("scale"),
        )
        adapter._published = adapter._bound(_finite_floats(state, "weights", adapter.param_count))
        waiting = _finite_floats(state, "sum", adapter.param_count)
        adapter._pending, adapter._skipped = state.whole("pending"), state.whole("skipped")
        adapter._sum = waiting if adapter._pending else None
        adapter._applied = state.whole("applied")
        return adapter


def _finite_floats(state: State, name: str, length: int) -> Floats:
    values = state.floats(name, length)
    if not np.isfinite(values).all():
        raise StoreError(f"saved state: {name} holds NaN or infinity")
    return values
