"""Attention by nearness in hyperbolic space, where a tree has room: circles grow as fast as its levels do."""

from __future__ import annotations

import numpy as np

from sona.tuner.plans.view import Doubles, PlanView

_STEP = 1.0
_FARTHEST = 15.0  # cosh of it still has digits to spare


def hierarchical_lorentz(view: PlanView) -> Doubles:
    """Return w_v ~ exp(-d(v, m)), d the Lorentz distance to the centroid m of the plan by cost.

    The root lies at the origin. Each operator lies a step farther out than the one that reads it, in a direction
    within its share of the circle by leaves: x = (cosh r, sinh r cos a, sinh r sin a). With the Lorentz product
    <x, y> = -x0 y0 + x1 y1 + x2 y2, m = s / sqrt(-<s, s>) for the sum s of the points by cost, and
    d(x, y) = arcosh(-<x, y>).

    Source:
        Nickel and Kiela 2018, Learning Continuous Hierarchies in the Lorentz Model, eq. 2 (product) and 5 (distance);
        Law et al. 2019, Lorentzian Distance Learning, eq. 8 (centroid).
    """
    points = _points(view)
    total = float(view.costs.sum())
    shares = view.costs / total if 0.0 < total < np.inf else np.full(len(view), 1.0 / len(view))
    middle = shares @ points
    middle = middle / np.sqrt(max(-_product(middle[None], middle)[0], 1e-300))
    distances = np.arccosh(np.maximum(-_product(points, middle), 1.0))
    scores = np.exp(distances.min() - distances)
    return np.asarray(scores / scores.sum(), np.float64)


def _product(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(x[:, 1:] @ y[1:] - x[:, 0] * y[0], np.float64)


def _points(view: PlanView) -> Doubles:
    # Of several readers the first places an operator, so that the graph is a tree.
    n = len(view)
    parents = [readers[0] if readers else -1 for readers in view.consumers()]
    depths, leaves = np.zeros(n), np.zeros(n)
    for row in view.order:
        leaves[row] = max(leaves[row], 1.0)
        if parents[row] >= 0:
            leaves[parents[row]] += leaves[row]
    opens, angles = np.zeros(n), np.zeros(n)
    taken = 0.0
    circle = 2.0 * np.pi / sum(leaves[row] for row in range(n) if parents[row] < 0)
    next_free = np.zeros(n)
    for row in reversed(view.order):
        parent = parents[row]
        opens[row] = taken if parent < 0 else next_free[parent]
        if parent < 0:
            taken += leaves[row] * circle
        else:
            next_free[parent] += leaves[row] * circle
            depths[row] = depths[parent] + 1.0
        next_free[row] = opens[row]
        angles[row] = opens[row] + 0.5 * leaves[row] * circle
    radii = depths * min(_STEP, _FARTHEST / max(depths.max(), 1.0))
    return np.stack([np.cosh(radii), np.sinh(radii) * np.cos(angles), np.sinh(radii) * np.sin(angles)], axis=1)
