"""The lasting adapter: a low-rank correction per layer, refitted in the background from all the data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona.adapters.factors import closer
from sona.adapters.statistics import RidgeStatistics
from sona.checks import Floats, embeddings, fraction, matrix, setting_number, setting_whole, whole
from sona.errors import DimensionMismatch, LearningError
from sona.kernel import LowRank
from sona.state import State, read_state, write_state

_KIND = "base_lora"


@dataclass(frozen=True, slots=True, eq=False)
class LoraLayer:
    """The published factors of one layer, read-only.

    Args:
        down: Shape (d, r).
        up: Shape (r, d).
        bound: Both, as forward passes use them.
    """

    down: Floats
    up: Floats
    bound: LowRank


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a refit put into a layer.

    Args:
        rank: Directions kept: the adapter's rank, or fewer when the data have fewer.
        energy_kept: Share of the solution's squared Frobenius norm inside that rank, in [0, 1].
        norm: Frobenius norm of what the layer adds, scaling included.
    """

    rank: int
    energy_kept: float
    norm: float


class BaseLoRA:
    """Corrections of rank r for a stack of layers: layer(x) = x + (alpha / r) x down up; a new layer is the identity.

    Readers use one published tuple of layers and never lock; one writer at a time replaces a layer.

    >>> adapter = BaseLoRA(2, rank=1, num_layers=1)
    >>> adapter.forward_layer(0, [0.3, 0.7]).tolist() == np.array([0.3, 0.7], np.float32).tolist()
    True
    >>> adapter.set_layer(0, [[1.0], [0.0]], [[0.0, 2.0]])
    >>> adapter.forward_layer(0, [1.0, 1.0]).tolist()
    [1.0, 3.0]
    """

    __slots__ = ("_alpha", "_hidden_dim", "_layers", "_rank", "_scaling")

    def __init__(self, hidden_dim: int, rank: int = 8, num_layers: int = 12, *, alpha: float | None = None) -> None:
        """Make an adapter that changes nothing yet.

        Args:
            hidden_dim: d, width of the embeddings.
            rank: r, in [1, d].
            num_layers: Number of layers, at least 1.
            alpha: The correction is scaled by alpha / r; r when None, a scaling of 1.

        Raises:
            ConfigError: a setting outside its range.
        """
        setting_whole(hidden_dim, "hidden_dim", 1)
        setting_whole(rank, "rank", 1, hidden_dim)
        setting_whole(num_layers, "num_layers", 1)
        setting_number(rank if alpha is None else alpha, "alpha", 0.0, 1e6, open_low=True)
        self._hidden_dim, self._rank = int(hidden_dim), int(rank)
        self._alpha = float(rank if alpha is None else alpha)
        self._scaling = np.float32(self._alpha / rank)
        self._layers: tuple[LoraLayer | None, ...] = (None,) * num_layers

    @property
    def hidden_dim(self) -> int:
        """Width d of the embeddings."""
        return self._hidden_dim

    @property
    def rank(self) -> int:
        """Rank r of each layer's correction."""
        return self._rank

    @property
    def alpha(self) -> float:
        """The correction is scaled by alpha / r."""
        return self._alpha

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self._layers)

    @property
    def param_count(self) -> int:
        """Number of weights of all layers, 2 d r each."""
        return 2 * self._hidden_dim * self._rank * self.num_layers

    def forward_layer(self, layer_idx: int, x: npt.ArrayLike) -> Floats:
        """Return `x` corrected by one layer; a layer that was never set returns `x` unchanged, bit for bit.

        Args:
            layer_idx: Which layer, from 0.
            x: Embeddings, shape (d,) or (n, d).

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: no such layer, NaN or infinity.

        Source:
            Hu et al. 2021, LoRA, eq. 3.
        """
        layer = self._layer(layer_idx)
        if layer is None:
            return embeddings(x, self._hidden_dim, "x").copy()
        return self._corrected(layer.bound.forward, x)

    def delta(self, layer_idx: int, x: npt.ArrayLike) -> Floats:
        """Return the correction of one layer alone, of the shape of `x`; zero for a layer that was never set.

        Raises:
            DimensionMismatch: `x` is of another width.
            InvalidValue: no such layer, NaN or infinity.
        """
        layer = self._layer(layer_idx)
        if layer is None:
            return np.zeros_like(embeddings(x, self._hidden_dim, "x"))
        return self._corrected(layer.bound.delta, x)

    def _corrected(self, correct: Callable[[object], Floats | None], x: npt.ArrayLike) -> Floats:
        found = correct(x)
        return closer(correct, x, self._hidden_dim) if found is None else found

    def _layer(self, layer_idx: int) -> LoraLayer | None:
        layers = self._layers
        return layers[whole(layer_idx, "layer_idx", 0, len(layers) - 1)]

    def layer(self, layer_idx: int) -> LoraLayer | None:
        """Return the published factors of one layer; None when it was never set.

        Raises:
            InvalidValue: no such layer.
        """
        return self._layer(layer_idx)

    def set_layer(self, layer_idx: int, down: npt.ArrayLike, up: npt.ArrayLike) -> None:
        """Replace the factors of one layer.

        Args:
            layer_idx: Which layer, from 0.
            down: Shape (d, r).
            up: Shape (r, d).

        Raises:
            DimensionMismatch: a factor of another shape.
            InvalidValue: no such layer, NaN or infinity.
        """
        self._layer(layer_idx)
        factors = matrix(down, self._rank, "down").copy(), matrix(up, self._hidden_dim, "up").copy()
        for factor, rows, name in zip(factors, (self._hidden_dim, self._rank), ("down rows", "up rows"), strict=True):
            if factor.shape[0] != rows:
                raise DimensionMismatch(rows, factor.shape[0], name)
            factor.flags.writeable = False
        flat = np.concatenate([factor.ravel() for factor in factors])
        bound = LowRank(flat, self._hidden_dim, self._rank, float(self._scaling), math.inf)
        self._publish(layer_idx, LoraLayer(*factors, bound))

    def reset_layer(self, layer_idx: int) -> None:
        """Make one layer the identity again.

        Raises:
            InvalidValue: no such layer.
        """
        self._layer(layer_idx)
        self._publish(layer_idx, None)

    def _publish(self, layer_idx: int, layer: LoraLayer | None) -> None:
        layers = self._layers
        self._layers = (*layers[:layer_idx], layer, *layers[layer_idx + 1 :])

    def fit_layer(
        self, layer_idx: int, statistics: RidgeStatistics, regularisation: float = 3.0, strength: float = 0.5
    ) -> FitResult:
        """Replace one layer by the ridge solution of all the data, times `strength`, cut to the rank.

        The cut is the closest matrix of rank r (Eckart and Young 1936). Defaults: docs/decisions/0002.

        Args:
            layer_idx: Which layer, from 0.
            statistics: Sums over the data, of width d.
            regularisation: lam of the ridge, above 0.
            strength: Share of the solution that is applied, in [0, 1].

        Raises:
            DimensionMismatch: the statistics are of another width.
            InvalidValue: no such layer, or a setting outside its range.
            LearningError: the solution cannot be computed; the layer is as it was.
        """
        self._layer(layer_idx)
        share = fraction(strength, "strength")
        if statistics.hidden_dim != self._hidden_dim:
            raise DimensionMismatch(self._hidden_dim, statistics.hidden_dim, "statistics")
        wanted = statistics.solve(regularisation).astype(np.float64) * share
        left, values, right = _signed_svd(wanted)
        energy = float(np.sum(values**2))
        if energy == 0.0:
            self.reset_layer(layer_idx)
            return FitResult(0, 1.0, 0.0)
        kept = np.sqrt(values[: self._rank])
        down = left[:, : self._rank] * kept
        up = kept[:, None] * right[: self._rank] / float(self._scaling)
        self.set_layer(layer_idx, down, up)
        inside = float(np.sum(values[: self._rank] ** 2))
        used = int(np.count_nonzero(values[: self._rank] > values[0] * 1e-7))  # float32 resolves no more
        return FitResult(used, min(inside / energy, 1.0), float(np.sqrt(inside)))

    def merge_weights(self, weights: npt.ArrayLike, layer_idx: int) -> Floats:
        """Return W + (alpha / r) down up: the linear layer y = x W with the correction built in.

        Row vectors: `x @ merged` equals `x @ weights + delta(layer_idx, x)`, the layer with its adapter beside it on
        the same input; with W = I it equals `forward_layer(layer_idx, x)`.

        Args:
            weights: W, shape (d, d).
            layer_idx: Which layer, from 0.

        Raises:
            DimensionMismatch: W is not (d, d).
            InvalidValue: no such layer, NaN or infinity.

        Source:
            Hu et al. 2021, LoRA, section 4.1.
        """
        layer = self._layer(layer_idx)
        given = matrix(weights, self._hidden_dim, "weights")
        if given.shape[0] != self._hidden_dim:
            raise DimensionMismatch(self._hidden_dim, given.shape[0], "weights rows")
        return given.copy() if layer is None else given + (layer.down * self._scaling).dot(layer.up)

    def state(self) -> State:
        """Return all that `from_state` needs to go on."""
        layers = {
            str(index): State({"down": layer.down, "up": layer.up})
            for index, layer in enumerate(self._layers)
            if layer is not None
        }
        return State(
            {
                "hidden_dim": self._hidden_dim,
                "rank": self._rank,
                "num_layers": self.num_layers,
                "alpha": self._alpha,
                "layers": State(layers),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> BaseLoRA:
        """Return the adapter that `state` was taken from; it answers bit for bit as that one did.

        Raises:
            StoreError: the state is incomplete or of another kind.
        """
        adapter = cls(
            state.whole("hidden_dim"), state.whole("rank"), state.whole("num_layers"), alpha=state.number("alpha")
        )
        layers = state.child("layers")
        for index in range(adapter.num_layers):
            if str(index) in layers:
                layer = layers.child(str(index))
                down = layer.floats("down", adapter.hidden_dim, adapter.rank)
                adapter.set_layer(index, down, layer.floats("up", adapter.rank, adapter.hidden_dim))
        return adapter

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the adapter to the file `path`, whole or not at all.

        Raises:
            StoreError: the file cannot be written; an earlier one is untouched.
        """
        write_state(path, _KIND, self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BaseLoRA:
        """Return the adapter that `save` wrote to `path`.

        Raises:
            StoreError: missing, damaged, or not an adapter.
        """
        return cls.from_state(read_state(path, _KIND))


def _signed_svd(wanted: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    # Singular vectors are free in sign: making the largest entry of each left one positive makes a refit reproducible.
    try:
        left, values, right = np.linalg.svd(wanted)
    except np.linalg.LinAlgError as error:
        raise LearningError(f"base adapter: the ridge solution has no SVD ({error})") from error
    peaks = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    signs = np.where(peaks < 0.0, -1.0, 1.0)
    return left * signs, values, right * signs[:, None]
