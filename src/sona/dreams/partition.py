"""The cut that costs least: which two parts of a network say nearly as much apart as they do together.

All of them are tried in a small network: principal minors of all sets come at a few operations each. In a larger one
Queyranne's algorithm searches, and the cuts along a few orders of the nodes are tried; the better of the two is taken.
A network that is too large for the algorithm has the orders alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from sona.checks import whole
from sona.dreams.dynamics import Doubles, Dynamics, Masks, dynamics
from sona.errors import InvalidValue

EXHAUSTIVE_NODES = 20  # the most for which all bipartitions may be tried: half a million
QUEYRANNE_NODES = 32
MOST_NODES = 512
_STARTS = 64


@dataclass(frozen=True, slots=True)
class Bipartition:
    """Two parts of a network.

    Args:
        part: Nodes of the smaller part, ascending; of the one with node 0 where both are as large.
        si: Stochastic interaction of the two, nats.
        is_exact: Whether all bipartitions were tried; otherwise a better one may exist.
    """

    part: tuple[int, ...]
    si: float
    is_exact: bool


def minimum_bipartition(a: npt.ArrayLike, exhaustive_nodes: int = 16) -> Bipartition:
    """Return the bipartition of least stochastic interaction.

    Args:
        a: Coupling A of x_t = A x_{t-1} + unit noise, shape (n, n) with n from 2 to 512.
        exhaustive_nodes: Up to so many nodes, at most 20, all bipartitions are tried. Above, Queyranne's algorithm
            searches, up to 32 nodes, and cuts along up to 65 orders of the nodes are tried.

    Raises:
        InvalidValue: a coupling of another size or without stationary state.

    >>> pairs = [[0.2, 0.5, 0, 0], [0.5, 0.2, 0, 0], [0, 0, 0.2, 0.5], [0, 0, 0.5, 0.2]]
    >>> minimum_bipartition(pairs).part
    (0, 1)

    Source:
        Queyranne 1998, Minimizing symmetric submodular functions; for this use Hidaka and Oizumi 2018. Stochastic
        interaction is not submodular in general, so the search is not certain to find the minimum.
    """
    whole(exhaustive_nodes, "exhaustive_nodes", 2, EXHAUSTIVE_NODES)
    system = dynamics(a)
    if not 2 <= len(system) <= MOST_NODES:
        raise InvalidValue(f"a: expected 2 to {MOST_NODES} nodes, got {len(system)}")
    if len(system) <= exhaustive_nodes:
        return _exhaustive(system)
    mask, si = sweeps(system)
    if len(system) <= QUEYRANNE_NODES:
        mask, si = min(queyranne(system), (mask, si), key=itemgetter(1))
    return Bipartition(smaller_part(mask), si, is_exact=False)


def smaller_part(mask: Masks) -> tuple[int, ...]:
    """Return the nodes of the smaller side of `mask`, shape (n,); of that with node 0 where both are as large."""
    inside = int(mask.sum())
    is_other = 2 * inside > len(mask) or (2 * inside == len(mask) and not mask[0])
    return tuple(np.flatnonzero(~mask if is_other else mask).tolist())


def _exhaustive(system: Dynamics) -> Bipartition:
    n = len(system)
    values = system.of_all_parts()[1 : 1 << (n - 1)]  # the sets without the last node; their complements are the rest
    place = int(values.argmin())
    mask = ((place + 1) >> np.arange(n) & 1).astype(np.bool_)
    return Bipartition(smaller_part(mask), float(values[place]), is_exact=True)


def queyranne(system: Dynamics) -> tuple[Masks, float]:
    """Return a set of nodes, shape (n,), that interacts little with the others, and how much, in nats.

    Each round finds two groups of which the last is the best set that parts the two, keeps it and joins them. That is
    the minimum where the interaction is submodular; it nearly is at moderate couplings.
    """
    groups = np.eye(len(system), dtype=np.bool_)
    best, least = groups[0], np.inf
    while len(groups) > 1:
        alone = system.of_parts(groups)
        last, before = _pendent_pair(system, groups, alone)
        if alone[last] < least:
            best, least = groups[last], float(alone[last])
        joined = groups[last] | groups[before]
        groups = np.concatenate([joined[None], np.delete(groups, [last, before], axis=0)])
    return best, least


def _pendent_pair(system: Dynamics, groups: Masks, alone: Doubles) -> tuple[int, int]:
    # Grow a set by the group that is closest to it until all are in; the last two in are the pair.
    last, before = int(alone.argmax()), -1
    inside, rest = groups[last], np.delete(np.arange(len(groups)), last)
    while len(rest):
        keys = system.of_parts(inside | groups[rest]) - alone[rest] if len(rest) > 1 else alone[rest]
        place = int(keys.argmin())
        last, before = int(rest[place]), last
        inside, rest = inside | groups[last], np.delete(rest, place)
    return last, before


def sweeps(system: Dynamics) -> tuple[Masks, float]:
    """Return the set of nodes, shape (n,), that interacts least with the others among beginnings of some orders.

    The orders are those of the second eigenvector, and of nearness to each of up to 64 nodes by random walks.

    Source:
        Andersen, Chung and Lang 2006, Local graph partitioning using PageRank vectors (sweeps; there for conductance).
    """
    best, least = np.zeros(0, np.int64), np.inf
    for order in _orders(system.coupling):
        values = system.of_beginnings(order)
        place = int(values.argmin())
        if values[place] < least:
            best, least = order[: place + 1], float(values[place])
    mask = np.zeros(len(system), np.bool_)
    mask[best] = True
    return mask, least


def _orders(coupling: Doubles) -> Iterator[npt.NDArray[np.int64]]:
    # Relative to the first eigenvector, which is greater where more links are.
    values, vectors = np.linalg.eigh((coupling + coupling.T) / 2.0)
    scale = np.maximum(np.abs(vectors[:, -1]), 1e-12)
    along = np.argsort(vectors[:, -2] / scale, kind="stable")
    yield along
    reached = (vectors / (1.1 - values / max(values[-1], 1e-12))) @ vectors.T
    for start in _starts(coupling, along):
        yield np.argsort(-reached[:, start] / scale, kind="stable")


def _starts(coupling: Doubles, along: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    # The nodes that are tied least, as the best part is often one of them alone, and some all along the network.
    weakest = np.argsort((coupling**2).sum(axis=0), kind="stable")[: _STARTS // 2]
    places = np.linspace(0, len(along) - 1, _STARTS // 2).round().astype(np.int64)
    return np.unique(np.concatenate([weakest, along[places]]))
