"""What a list earned, and what of it was earned by the beginning that both answers share."""

from __future__ import annotations

from collections.abc import Sequence


def list_quality(rewards: Sequence[float], prefix: int) -> tuple[float, float]:
    """Return the quality of a shown list, its best reward over position, and the part its first `prefix` items earned.

    Quality is max_k r_k / k, the reciprocal rank for rewards of 0 and 1. Both lists of a request begin with the same
    `prefix` items. As long as what people do there does not depend on what follows, the beginning earns the same
    under either list, and only the surplus, quality minus common, can differ. It is at most 1 / (prefix + 1).

    Args:
        rewards: What each position earned, in [0, 1], best position first.
        prefix: Items that both lists begin with.

    Returns:
        Quality and common, both in [0, 1].

    >>> list_quality([0.0, 1.0, 1.0], 1), list_quality([0.0, 1.0, 1.0], 2)
    ((0.5, 0.0), (0.5, 0.5))
    """
    worth = [reward / position for position, reward in enumerate(rewards, 1)]
    return max(worth, default=0.0), max(worth[: max(prefix, 0)], default=0.0)
