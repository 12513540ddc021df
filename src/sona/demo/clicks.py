"""Simulated people: who looks at what, clicks on what, and errs how often."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

EXAMINATION_POWER = 0.5
FLIP_CHANCE = 0.1


def clicks(shown: Sequence[str], relevant: Collection[str], rng: np.random.Generator) -> dict[str, float]:
    """Return what a person clicked among `shown`, each with reward 1.

    Position k is examined with probability k ** -0.5; an examined item is clicked if it is relevant, and that
    decision is flipped with probability 0.1. The same number of draws is made whatever is relevant, so two
    policies that show equally many items see the same chance.

    Args:
        shown: Ids, best first.
        relevant: Ids that answer the request.
        rng: The person's chance.

    Source:
        Joachims, Swaminathan, Schnabel 2017, Unbiased Learning-to-Rank with Biased Feedback, section 6.1.

    >>> clicks(["a", "b"], {"a"}, np.random.default_rng(1))
    {'a': 1.0}
    """
    positions = np.arange(1, len(shown) + 1)
    examined = rng.random(len(shown)) < positions**-EXAMINATION_POWER
    flipped = rng.random(len(shown)) < FLIP_CHANCE
    wanted = np.array([item in relevant for item in shown], bool)
    clicked = examined & (wanted ^ flipped)
    return {item: 1.0 for item, hit in zip(shown, clicked, strict=True) if hit}


def shuffled(rewards: Mapping[str, float], shown: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    """Return `rewards` moved to random ids among `shown`: as many, as large, and without meaning.

    The control: whoever still improves on these improves for another reason than the clicks.

    >>> sorted(shuffled({"a": 1.0}, ["a"], np.random.default_rng(0)).items())
    [('a', 1.0)]
    """
    places = rng.permutation(len(shown))[: len(rewards)]
    return {shown[int(place)]: value for place, value in zip(places, rewards.values(), strict=True)}
