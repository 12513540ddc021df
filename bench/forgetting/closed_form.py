"""Part A: two quadratic losses whose joint optimum is known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sona.config import EwcConfig
from sona.retention import EwcPlusPlus

CURVATURE_1, CURVATURE_2, TARGET_1, TARGET_2, STRENGTH, RATE = 3.0, 2.0, -1.0, 4.0, 1.5, 0.05
EXPECTED = (CURVATURE_2 * TARGET_2 + STRENGTH * CURVATURE_1 * TARGET_1) / (CURVATURE_2 + STRENGTH * CURVATURE_1)
STEPS = 2000

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]


def descend(step: Step, rate: float = RATE) -> float:
    """Return where plain descent of the second loss ends, each gradient passed through `step`."""
    weights = np.array([TARGET_1], np.float32)
    for _ in range(STEPS):
        gradient = (CURVATURE_2 * (weights - TARGET_2)).astype(np.float32)
        weights = np.clip(weights - np.float32(rate) * step(gradient, weights), -1e6, 1e6)
    return float(weights[0])


def learner(strength: float, rate: float) -> EwcPlusPlus:
    ewc = EwcPlusPlus(
        EwcConfig(param_count=1, strength=strength, min_strength=0.0, max_strength=1e9, learning_rate=rate)
    )
    ewc.update_fisher([[1.0], [-1.0], [1.0], [3.0]])  # mean square 3 = CURVATURE_1
    ewc.start_new_task([TARGET_1])
    return ewc


def run() -> dict:
    """Return where each form ends, and the explicit penalty beyond its stability limit beside the implicit one."""
    ewc = learner(STRENGTH, RATE)
    stiff = learner(2.5 / (RATE * CURVATURE_1), RATE)  # eta lambda F = 2.5
    shrink = np.float32(1.0 + STRENGTH * CURVATURE_1)
    return {
        "expected": EXPECTED,
        "ours": descend(ewc.apply_constraints),
        "explicit_penalty": descend(lambda g, w: g + ewc.regularization_gradient(w)),
        "specification": descend(lambda g, _: g / shrink),
        "naive": descend(lambda g, _: g),
        "stiff_ours": descend(stiff.apply_constraints),
        "stiff_explicit_diverges": abs(descend(lambda g, w: g + stiff.regularization_gradient(w))) > 1e5,
    }
