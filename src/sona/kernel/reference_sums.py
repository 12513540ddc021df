"""The kernel in numpy: sums over a handful of rows, and what chance costs a running one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sona.kernel.plain import is_plain

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def pooled(
    items: list[Rows], sums: list[Doubles], columns: list[int], shares: list[float], bins: int
) -> tuple[Rows, Floats, Floats] | None:
    """Return what neighbours hold of each item: items in the order they first come, and both sums, by column.

    Args:
        items: Of each neighbour, shape (m,).
        sums: What those were taken and passed, shape (m, 2).
        columns: Where each neighbour counts.
        shares: How much of it.
        bins: Columns.

    Returns:
        Items (n,), taken and passed (n, bins).
    """
    if not len(items) == len(sums) == len(columns) == len(shares) or bins < 1:
        return None
    for own, held, column in zip(items, sums, columns, strict=True):
        if not is_plain(own, np.int64, None) or not is_plain(held, np.float64, len(own), 2) or not 0 <= column < bins:
            return None
    cells: dict[int, list[list[float]]] = {}
    for own, held, column, share in zip(items, sums, columns, shares, strict=True):
        for item, (taken, passed) in zip(own.tolist(), held.tolist(), strict=True):
            cell = cells.get(item)
            if cell is None:
                cell = cells[item] = [[0.0] * bins, [0.0] * bins]
            cell[0][column] += taken * share
            cell[1][column] += passed * share
    both = np.array(list(cells.values()), np.float64).reshape(len(cells), 2, bins).astype(np.float32)
    names = np.fromiter(cells, np.int64, len(cells))
    return names, np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def lift(scores: Floats, rows: Rows, amounts: Floats) -> int | None:
    """Add amounts (m,) to `scores` (n,) at rows (m,); return at how many: rows outside are passed over."""
    if not (is_plain(scores, np.float32, None) and scores.flags.writeable and is_plain(rows, np.int64, None)):
        return None
    if not is_plain(amounts, np.float32, len(rows)):
        return None
    found = np.flatnonzero((rows >= 0) & (rows < len(scores)))
    np.add.at(scores, rows[found], amounts[found])
    return len(found)


def spread(
    starts: Rows, ends: npt.NDArray[np.int32], weights: Floats, rows: Rows, active: Doubles
) -> tuple[Rows, Doubles] | None:
    """Return where the links of active rows lead, each once, and how much of each kind arrives there.

    Every row shares what is active of a kind among its links by their weights of that kind.

    Args:
        starts: Row i has the links starts[i] to starts[i + 1]; rows beyond have none, shape (n + 1,).
        ends: Where each leads, shape (m,).
        weights: By kind, at least 0, shape (2, m).
        rows: The active rows, shape (k,).
        active: How active each is, by kind, shape (2, k).

    Returns:
        Ends (r,) in the order they first come, amounts (2, r).
    """
    if not (is_plain(starts, np.int64, None) and starts.shape[0] and is_plain(ends, np.int32, None)):
        return None
    if not (is_plain(weights, np.float32, 2, len(ends)) and is_plain(rows, np.int64, None)):
        return None
    if not is_plain(active, np.float64, 2, len(rows)) or (rows < 0).any():
        return None
    sums: dict[int, list[float]] = {}
    for row, similar, linked in zip(rows.tolist(), *active.tolist(), strict=True):
        own = slice(*starts[row : row + 2].tolist()) if row < len(starts) - 1 else slice(0)
        kinds = weights[:, own].astype(np.float64)
        totals = [sum(kind) for kind in kinds.tolist()]
        shares = [part / total if total > 0.0 else 0.0 for part, total in zip((similar, linked), totals, strict=True)]
        for end, one, other in zip(ends[own].tolist(), *kinds.tolist(), strict=True):
            found = sums.setdefault(end, [0.0, 0.0])
            found[0] += one * shares[0]
            found[1] += other * shares[1]
    amounts = np.array(list(sums.values()), np.float64).reshape(len(sums), 2).T
    return np.fromiter(sums, np.int64, len(sums)), np.ascontiguousarray(amounts)


_SMALL = 1e-4  # below it h is taken to be h(1e-4)
_NEWTON_STEPS = 60


def charge(costs: Doubles, rates: Doubles, residual: float, below: float, above: float) -> Doubles | None:
    """Add h(rate reach) (rate residual)^2 to `costs` (2, r), `below` being the first row's reach; h as in `sequence`.

    Args:
        costs: What chance costs so far, shape (2, r).
        rates: Shape (r,).
        residual: Of a value from its prediction.
        below: How far it could have gone downwards.
        above: The same upwards.
    """
    if not is_plain(rates, np.float64, None) or not is_plain(costs, np.float64, 2, len(rates)):
        return None
    if not costs.flags.writeable:
        return None
    u = np.maximum(rates * np.array([[below], [above]]), _SMALL)
    costs += (-np.log1p(-u) - u) / (u * u) * (rates * rates * (residual * residual))
    return costs


def deviation(log_weights: Doubles, rates: Doubles, costs: Doubles, goal: float) -> float | None:
    """Return the s at which sum_k w_k exp(rate_k s - cost_k) reaches exp(goal).

    Newton's method from the right: the logarithm of the mixture is convex and rises, so every step stays right of s.
    """
    if not all(is_plain(part, np.float64, len(rates)) for part in (log_weights, rates, costs)) or not len(rates):
        return None
    s = float(np.min((goal - log_weights + costs) / rates))
    for _ in range(_NEWTON_STEPS):
        exponents = log_weights + rates * s - costs
        highest = exponents.max()
        terms = np.exp(exponents - highest)
        mass = float(terms.sum())
        step = (float(highest) + math.log(mass) - goal) * mass / float(terms @ rates)
        s -= step
        if step <= 1e-12 * (1.0 + s):
            break
    return s
