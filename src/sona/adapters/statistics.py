"""What a linear map needs to know of all its data: sums that add up, so that nothing is ever forgotten.

For pairs (x, y), x the request and y what served it, the sums are G = sum w x^T x and H = sum w x^T (y - x).
The ridge solution W = (G + lam I)^-1 H depends on the data through them alone: statistics of many workers add up to
those of all their data, and data can be taken out again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sona.checks import Floats, embeddings, finite, setting_whole
from sona.errors import DimensionMismatch, InvalidValue, LearningError, StateError
from sona.state import State

_Doubles = npt.NDArray[np.float64]


class RidgeStatistics:
    """Additive sufficient statistics of the map from requests to what served them, in float64.

    >>> east = RidgeStatistics(2)
    >>> east.add([1.0, 0.0], [0.0, 1.0])
    >>> west = RidgeStatistics(2)
    >>> west.add([[0.0, 1.0]], [[0.0, 1.0]])
    >>> (east + west).count, (east + west).solve(1.0).tolist()
    (2, [[-0.5, 0.5], [0.0, 0.0]])
    """

    __slots__ = ("_count", "_cross", "_gram", "_hidden_dim", "_weight")

    def __init__(self, hidden_dim: int) -> None:
        """Begin with no data.

        Args:
            hidden_dim: d, width of the embeddings.

        Raises:
            ConfigError: `hidden_dim` is not at least 1.
        """
        setting_whole(hidden_dim, "hidden_dim", 1)
        self._hidden_dim = int(hidden_dim)
        self._count, self._weight = 0, 0.0
        self._gram: _Doubles = np.zeros((hidden_dim, hidden_dim))
        self._cross: _Doubles = np.zeros((hidden_dim, hidden_dim))

    @property
    def hidden_dim(self) -> int:
        """Width d of the embeddings."""
        return self._hidden_dim

    @property
    def count(self) -> int:
        """Pairs behind the sums."""
        return self._count

    @property
    def total_weight(self) -> float:
        """Their summed weight."""
        return self._weight

    def add(self, x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike = 1.0) -> None:
        """Take in pairs of a request and what served it.

        Args:
            x: Requests, shape (d,) or (n, d).
            y: What served them, of the same shape.
            weight: How much each pair counts, at least 0: one number, or shape (n,).

        Raises:
            DimensionMismatch: another width.
            InvalidValue: NaN, infinity, shapes that differ, or a weight below 0; nothing was added.
        """
        self._move(x, y, weight, 1)

    def subtract(self, x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike = 1.0) -> None:
        """Take out pairs that were added before with the same weight, as amended or forgotten data.

        Args and errors are those of `add`.

        Raises:
            StateError: more pairs than were added; nothing was taken out.
        """
        self._move(x, y, weight, -1)

    def _move(self, x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike, sign: int) -> None:
        requests = embeddings(x, self._hidden_dim, "x")
        served = embeddings(y, self._hidden_dim, "y")
        if requests.shape != served.shape:
            raise InvalidValue(f"y: expected shape {requests.shape} as x, got {served.shape}")
        rows = np.atleast_2d(requests).astype(np.float64)
        offsets = np.atleast_2d(served) - rows
        weights = _weights(weight, len(rows))
        if sign < 0 and len(rows) > self._count:
            raise StateError(f"cannot take {len(rows)} pairs out of {self._count}")
        weighted = rows.T * (sign * weights)
        self._gram += weighted @ rows
        self._cross += weighted @ offsets
        self._count += sign * len(rows)
        self._weight += sign * float(weights.sum())

    def merge(self, other: RidgeStatistics) -> None:
        """Add the data of `other`, such as another worker's; `other` is not changed.

        Raises:
            DimensionMismatch: `other` is of another width.
        """
        if other._hidden_dim != self._hidden_dim:
            raise DimensionMismatch(self._hidden_dim, other._hidden_dim, "statistics")
        self._gram += other._gram
        self._cross += other._cross
        self._count += other._count
        self._weight += other._weight

    def __add__(self, other: RidgeStatistics) -> RidgeStatistics:
        """Return the statistics of the data of both."""
        total = RidgeStatistics(self._hidden_dim)
        total.merge(self)
        total.merge(other)
        return total

    def solve(self, regularisation: float) -> Floats:
        """Return W = (G + lam I)^-1 H, so that x + x W is the ridge estimate of what serves x; zero without data.

        Args:
            regularisation: lam, above 0; large values keep W small where data are few.

        Returns:
            W, shape (d, d).

        Raises:
            InvalidValue: `regularisation` is not finite and above 0.
            LearningError: the sums are not those of any data, after taking out what was never added.

        Source:
            Hoerl and Kennard 1970, Ridge regression, eq. 2.1.
        """
        if finite(regularisation, "regularisation") <= 0.0:
            raise InvalidValue(f"regularisation: expected a number above 0, got {regularisation!r}")
        try:
            root = np.linalg.cholesky(self._gram + regularisation * np.eye(self._hidden_dim))
            solution = np.linalg.solve(root.T, np.linalg.solve(root, self._cross))
        except np.linalg.LinAlgError as error:
            raise LearningError(f"ridge: G + lam I is not positive definite ({error})") from error
        return solution.astype(np.float32)

    def state(self) -> State:
        """Return all that `from_state` needs to go on."""
        return State(
            {
                "count": self._count,
                "weight": self._weight,
                "gram": self._gram.copy(),
                "cross": self._cross.copy(),
            }
        )

    @classmethod
    def from_state(cls, state: State) -> RidgeStatistics:
        """Return the statistics that `state` was taken from.

        Raises:
            StoreError: the state is incomplete or of another kind.
        """
        gram = state.doubles("gram", None, None)
        statistics = cls(gram.shape[0])
        statistics._gram, statistics._cross = gram, state.doubles("cross", *gram.shape)
        statistics._count, statistics._weight = state.whole("count"), state.number("weight")
        return statistics


def _weights(weight: npt.ArrayLike, count: int) -> _Doubles:
    try:
        weights = np.asarray(weight, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"weight: cannot be read as numbers ({error})") from error
    if weights.shape not in ((), (count,)):
        raise InvalidValue(f"weight: expected one number or shape ({count},), got {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0.0)).all():
        raise InvalidValue("weight: expected finite numbers of at least 0")
    return np.broadcast_to(weights, (count,))
