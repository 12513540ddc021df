"""Seven ways to weight the operators of a plan against each other; each is a pure function of a `PlanView`.

All weights are at least 0 and add up to 1. None sees what an operator is, only edges, costs and rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from sona.errors import InvalidValue
from sona.tuner.execution import AttentionType
from sona.tuner.plans.criticality import criticality
from sona.tuner.plans.lorentz import hierarchical_lorentz
from sona.tuner.plans.mincut import vertex_min_cut
from sona.tuner.plans.view import Doubles, PlanView

DEFAULT = AttentionType.TOPOLOGICAL
"""The cheapest: it needs no costs and no search."""
_DISCOUNT = 0.5
_OFF_CUT = 0.1
_DECAY = 0.25


def attention_weights(view: PlanView, attention_type: AttentionType = DEFAULT) -> Doubles:
    """Return the weights of the operators by one of the seven types, shape (n,), at least 0 with sum 1.

    Raises:
        InvalidValue: an unknown type.

    >>> attention_weights(PlanView.of([[], [0], [1]], [1, 5, 2]), AttentionType.CRITICAL_PATH).tolist()
    [0.125, 0.625, 0.25]
    """
    return _TYPES[known_type(attention_type)](view)


def known_type(attention_type: AttentionType) -> AttentionType:
    """Return the type itself, also where its text is given.

    Raises:
        InvalidValue: an unknown type.
    """
    if attention_type not in _TYPES:
        raise InvalidValue(f"attention_type: expected one of {', '.join(_TYPES)}, got {attention_type!r}")
    return AttentionType(attention_type)


def topological(view: PlanView) -> Doubles:
    """Return w_i ~ 1/(i + 1), i the place in topological order: what is read first counts most.

    Source:
        Zipf's law over places.
    """
    weights = np.empty(len(view))
    weights[list(view.order)] = 1.0 / np.arange(1, len(view) + 1)
    return _shares(weights)


def causal_cone(view: PlanView) -> Doubles:
    """Return w_v ~ sum over u in the past cone of v of 1/2^d(u, v): what depends on much counts most.

    The past cone holds v and all it reads, directly or not; d is the number of edges of the shortest way.

    Source:
        Katz 1953 (status by discounted ways), with the shortest way in place of all.
    """
    return _shares(np.array([_cone(view, row) for row in range(len(view))]))


def _cone(view: PlanView, top: int) -> float:
    distance = {top: 0}
    waiting = deque([top])
    while waiting:
        here = waiting.popleft()
        for one in view.inputs[here]:
            if one not in distance:
                distance[one] = distance[here] + 1
                waiting.append(one)
    return float(sum(_DISCOUNT**steps for steps in distance.values()))


def critical_path(view: PlanView) -> Doubles:
    """Return w_v ~ drag of v: what the plan would save without it; the same for all where nothing takes time.

    Source:
        Devaux 1999, Total Project Control (drag).
    """
    return _shares(criticality(view.costs, view.before).drag)


def min_cut_gated(view: PlanView) -> Doubles:
    """Return w_v ~ 1 on the vertex min-cut and 1/10 elsewhere: where the flow of rows is narrowest.

    An operator's capacity is the rows it hands on per unit of its own cost, (rows + 1)/cost.

    Source:
        Menger 1927; Edmonds and Karp 1972.
    """
    with np.errstate(divide="ignore", over="ignore"):
        capacities = (view.rows + 1.0) / view.costs
    gates = np.full(len(view), _OFF_CUT)
    gates[list(vertex_min_cut(capacities, view.inputs).cut)] = 1.0
    return _shares(gates)


def parallel_branch(view: PlanView) -> Doubles:
    """Return w_v = 1 / (branches x operators in the branch of v): every branch counts the same, however long.

    A branch is a run of operators of which each reads the one below alone and is read by the one above alone.
    """
    branch = list(range(len(view)))
    consumers = view.consumers()
    for row in view.order:
        below = view.inputs[row]
        if len(below) == 1 and len(consumers[below[0]]) == 1:
            branch[row] = branch[below[0]]
    _, places, sizes = np.unique(branch, return_inverse=True, return_counts=True)
    return _shares(1.0 / sizes[places])


def temporal_btsp(view: PlanView) -> Doubles:
    """Return w_v ~ mean over the time v runs of exp(-|t - P| / tau): what runs near the bottleneck counts most.

    P is the plateau, the time in which the operator of greatest drag runs, |t - P| the time between t and it, and tau
    a quarter of the plan's time: the trace that an operator leaves fades to both sides of the plateau.

    Source:
        Bittner et al. 2017, Behavioral time scale synaptic plasticity (a plateau and traces around it).
    """
    found = criticality(view.costs, view.before)
    if found.length == 0.0:
        return _shares(np.zeros(len(view)))
    starts, ends = found.start / found.length, (found.start + view.costs) / found.length
    peak = int(np.argmax(found.drag))
    return _shares(np.array([_trace(*span, starts[peak], ends[peak]) for span in zip(starts, ends, strict=True)]))


def _trace(start: float, end: float, opens: float, closes: float) -> float:
    # Before the plateau, in it, and after it, each integrated; the mean over no time is the value there.
    if end - start < 1e-9:
        away = max(opens - start, start - closes, 0.0)
        return float(np.exp(-away / _DECAY))
    before = _faded(opens - min(end, opens)) - _faded(opens - min(start, opens))
    after = _faded(max(start, closes) - closes) - _faded(max(end, closes) - closes)
    inside = max(min(end, closes) - max(start, opens), 0.0)
    return (before + inside + after) / (end - start)


def _faded(away: float) -> float:
    # The integral of exp(-x / tau) from `away` on.
    return float(_DECAY * np.exp(-away / _DECAY))


def _shares(scores: Doubles) -> Doubles:
    # Divided by the greatest first, so that sums of tiny or huge scores neither vanish nor overflow.
    greatest = float(scores.max())
    if greatest <= 0.0:
        return np.full(len(scores), 1.0 / len(scores))
    scaled = scores / greatest
    return np.asarray(scaled / scaled.sum(), np.float64)


_TYPES: Mapping[AttentionType, Callable[[PlanView], Doubles]] = {
    AttentionType.TOPOLOGICAL: topological,
    AttentionType.CAUSAL_CONE: causal_cone,
    AttentionType.CRITICAL_PATH: critical_path,
    AttentionType.MIN_CUT_GATED: min_cut_gated,
    AttentionType.HIERARCHICAL_LORENTZ: hierarchical_lorentz,
    AttentionType.PARALLEL_BRANCH: parallel_branch,
    AttentionType.TEMPORAL_BTSP: temporal_btsp,
}
