"""Linear dynamics with unit noise: what its parts cannot say of themselves once each forgets the past of the other.

Everything follows from ln det S(M | past of M) of parts M, and that from principal minors of a few fixed matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sona.errors import InvalidValue

Doubles: TypeAlias = npt.NDArray[np.float64]
Masks: TypeAlias = npt.NDArray[np.bool_]

_MOST_VARIANCE = 1e6  # beyond it, in units of the noise, differences of log determinants have lost their digits
_DOUBLINGS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A positive definite matrix whose principal minors enter an entropy with a sign.

    Args:
        matrix: Rows and columns in blocks, one for each node, shape (n * block, n * block).
        block: Rows of a node.
        sign: 1 or -1.
    """

    matrix: Doubles
    block: int
    sign: int

    def of_all_parts(self) -> Doubles:
        """Return ln det for all 2^n sets of nodes, node j in the set where bit j of the place is 1; 0 for none."""
        logs, rest = np.zeros(1), self.matrix[None]
        while rest.shape[1]:
            without, taken, more = rest[:, self.block :, self.block :], rest, logs
            for _ in range(self.block):
                pivot = taken[:, :1, :1]
                more = more + np.log(pivot[:, 0, 0])
                taken = taken[:, 1:, 1:] - taken[:, 1:, :1] * (taken[:, :1, 1:] / pivot)
            logs, rest = np.concatenate([logs, more]), np.concatenate([without, taken])
        return logs

    def of_parts(self, masks: Masks) -> Doubles:
        """Return ln det for each set of nodes of `masks`, shape (m, n)."""
        rows = np.repeat(masks, self.block, axis=1)
        minors = np.where(rows[:, :, None] & rows[:, None, :], self.matrix, np.eye(len(self.matrix)))
        logs: Doubles = np.linalg.slogdet(minors)[1]
        return logs

    def of_beginnings(self, order: npt.NDArray[np.int64]) -> Doubles:
        """Return ln det for the first 1, 2, ... n nodes of `order`."""
        rows = (order[:, None] * self.block + np.arange(self.block)).ravel()
        root = np.linalg.cholesky(self.matrix[np.ix_(rows, rows)])
        logs: Doubles = 2.0 * np.log(np.diagonal(root)).cumsum()[self.block - 1 :: self.block]
        return logs


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """x_t = A x_{t-1} + unit noise in its stationary state.

    The terms of a part N add up to ln det S(M | past of M) of all other nodes M. With P the inverse of the
    stationary covariance that is ln det R_N - ln det P_N, where R = [[P + A'A, -A'], [-A, I]] is the inverse
    covariance of past and present. For a symmetric A, R_N splits into (I - A)_N and (I + A)_N.

    Args:
        coupling: A, shape (n, n).
        terms: Matrices of the entropies.
    """

    coupling: Doubles
    terms: tuple[Term, ...]

    def __len__(self) -> int:
        """Return the number n of nodes."""
        return len(self.coupling)

    def of_all_parts(self) -> Doubles:
        """Return the stochastic interaction of all 2^n sets of nodes with the others, in nats.

        Node j is in the set where bit j of the place is 1.
        """
        entropies = sum((term.sign * term.of_all_parts() for term in self.terms), np.zeros(1))
        return _never_negative(0.5 * (entropies + entropies[::-1]))

    def of_parts(self, masks: Masks) -> Doubles:
        """Return the stochastic interaction of each set of nodes of `masks`, shape (m, n), with the others, in nats."""
        both = np.concatenate([masks, ~masks])
        entropies = sum((term.sign * term.of_parts(both) for term in self.terms), np.zeros(1))
        return _never_negative(0.5 * (entropies[: len(masks)] + entropies[len(masks) :]))

    def of_beginnings(self, order: npt.NDArray[np.int64]) -> Doubles:
        """Return the stochastic interaction of the first 1, 2, ... n - 1 nodes of `order` with the others, in nats."""
        forth, back = (
            sum((term.sign * term.of_beginnings(one) for term in self.terms), np.zeros(1))
            for one in (order, order[::-1])
        )
        return _never_negative(0.5 * (forth[:-1] + back[:-1][::-1]))


def dynamics(a: npt.ArrayLike) -> Dynamics:
    """Return the dynamics of coupling `a`, shape (n, n) with n of at least 1.

    Raises:
        InvalidValue: another shape, NaN, infinity, or no stationary state: a spectral radius of 1 or more, or so
            near to it that a variance exceeds a million times the noise.
    """
    coupling = square(a, "a")
    if len(coupling) == 0:
        raise InvalidValue("a: expected at least one node")
    if np.array_equal(coupling, coupling.T):
        return _symmetric(coupling)
    covariance = stationary_covariance(coupling)
    precision = np.asarray(np.linalg.inv(covariance), np.float64)
    return Dynamics(coupling, (Term(_past_and_present(coupling, precision), 2, 1), Term(precision, 1, -1)))


def _symmetric(coupling: Doubles) -> Dynamics:
    one = np.eye(len(coupling))
    radius = float(np.abs(np.linalg.eigvalsh(coupling)).max())
    if not radius**2 <= 1.0 - 1.0 / _MOST_VARIANCE:
        raise InvalidValue(_UNSTABLE)
    terms = Term(one - coupling, 1, 1), Term(one + coupling, 1, 1), Term(one - coupling @ coupling, 1, -1)
    return Dynamics(coupling, terms)


def _past_and_present(coupling: Doubles, precision: Doubles) -> Doubles:
    n = len(coupling)
    both = np.empty((n, 2, n, 2))
    both[:, 0, :, 0] = precision + coupling.T @ coupling
    both[:, 0, :, 1] = -coupling.T
    both[:, 1, :, 0] = -coupling
    both[:, 1, :, 1] = np.eye(n)
    return both.reshape(2 * n, 2 * n)


def _never_negative(interactions: Doubles) -> Doubles:
    # Below 0 there are only roundings.
    return np.maximum(interactions, 0.0)


_UNSTABLE = "a: expected a spectral radius below 1, and variances up to a million times the noise"


def square(value: npt.ArrayLike, what: str) -> Doubles:
    """Return `value` as a finite float64 matrix of shape (n, n), or raise InvalidValue."""
    try:
        matrix = np.asarray(value)
        if matrix.dtype.kind not in "fiub":
            raise InvalidValue(f"{what}: expected numbers, got dtype {matrix.dtype}")
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidValue):
            raise
        raise InvalidValue(f"{what}: cannot be read as numbers ({error})") from error
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InvalidValue(f"{what}: expected shape (n, n), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InvalidValue(f"{what}: holds NaN or infinity")
    return matrix.astype(np.float64)


def stationary_covariance(a: npt.ArrayLike) -> Doubles:
    """Return S = A S A' + I, the covariance of x_t = A x_{t-1} + unit noise in the long run.

    Args:
        a: A, shape (n, n).

    Returns:
        Shape (n, n).

    Raises:
        InvalidValue: another shape, NaN, infinity, or no stationary state (see `dynamics`).

    >>> stationary_covariance([[0.6]]).round(6).tolist()
    [[1.5625]]

    Source:
        Smith 1968, matrix equation XA + BX = C (doubling): after j rounds the sum has 2^j of its terms A^k A'^k.
    """
    power = square(a, "a")
    covariance = np.eye(len(power))
    for _ in range(_DOUBLINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            more = power @ covariance @ power.T
            power = power @ power
        covariance = covariance + more
        if not np.isfinite(power).all() or not np.trace(covariance) <= _MOST_VARIANCE * len(covariance):
            raise InvalidValue(_UNSTABLE)
        if np.abs(more).max(initial=0.0) <= 1e-17:
            break
    return (covariance + covariance.T) / 2.0


def stochastic_interaction(a: npt.ArrayLike, part: Sequence[int]) -> float:
    """Return what two parts say less of their present than the whole does, each knowing its own past alone.

    SI = 1/2 [ln det S(M | M past) + ln det S(N | N past) - ln det S(all | past of all)]; the last is 0 for unit
    noise.

    Args:
        a: Coupling A of x_t = A x_{t-1} + unit noise, shape (n, n).
        part: Nodes of M, from 0 to n - 1; the others are N.

    Returns:
        Nats, at least 0.

    Raises:
        InvalidValue: a coupling without stationary state, a node that does not exist or is named twice, or a part
            of none or all of the nodes.

    >>> round(stochastic_interaction([[0.4, 0.4], [0.4, 0.4]], [0]), 6)
    0.211309

    Source:
        Ay 2015, Information geometry on complexity and stochastic interaction; Barrett and Seth 2011,
        Practical measures of integrated information for time-series data (Gaussian form).
    """
    system = dynamics(a)
    mask = np.zeros((1, len(system)), np.bool_)
    nodes = list(part)
    is_node = [isinstance(node, (int, np.integer)) and 0 <= node < len(system) for node in nodes]
    if not all(is_node) or len(set(nodes)) != len(nodes) or not 0 < len(nodes) < len(system):
        raise InvalidValue(f"part: expected 1 to {len(system) - 1} nodes out of {len(system)}, each once, got {nodes}")
    mask[0, nodes] = True
    return float(system.of_parts(mask)[0])


def mutual_information(a: npt.ArrayLike) -> float:
    """Return what the past of the whole says of its present: half of ln det S for unit noise, in nats.

    Raises:
        InvalidValue: a coupling without stationary state.

    >>> round(mutual_information([[0.4, 0.4], [0.4, 0.4]]), 6)
    0.510826
    """
    return float(0.5 * np.linalg.slogdet(stationary_covariance(a))[1])
