"""Off-policy estimates against the formulas written out on whole arrays."""

from dataclasses import replace

import numpy as np
import pytest

from sona.guard.offpolicy import OffPolicy
from sona.guard.trial import Expected, Trial
from sona.state import digest


def trials(count: int, seed: int = 0) -> list[Trial]:
    rng = np.random.default_rng(seed)
    exposures = rng.uniform(0.1, 0.9, count)
    learned = rng.random(count) < exposures
    quality = rng.beta(2.0, 2.0, count) * np.where(learned, 1.0, 0.7)
    return [
        Trial(unit, 1, bool(arm), float(e), float(y))
        for unit, (arm, e, y) in enumerate(zip(learned, exposures, quality, strict=True))
    ]


def told(taken: list[Trial]) -> tuple[OffPolicy, list[Expected]]:
    policies = OffPolicy()
    return policies, [policies.observe(trial) for trial in taken]


@pytest.mark.parametrize("arm", [0, 1])
def test_estimates_and_standard_errors_are_those_of_the_books(arm):
    taken = trials(500)
    policies, expected = told(taken)
    e = np.array([t.exposure if arm else 1.0 - t.exposure for t in taken])
    w = np.array([t.arm == arm for t in taken]) / e
    y = np.array([t.quality for t in taken])
    m = np.array([x.learned if arm else x.frozen for x in expected])
    found = policies.value(arm)
    for estimate, values in ((found.ips, w * y), (found.dr, m + w * (y - m))):
        assert estimate.value == pytest.approx(values.mean())
        assert estimate.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(500))
    snips = (w * y).sum() / w.sum()
    assert found.snips.value == pytest.approx(snips)
    assert found.snips.standard_error == pytest.approx(np.sqrt((w**2 * (y - snips) ** 2).sum()) / w.sum())


def test_estimates_find_the_truth():
    policies, _ = told(trials(20_000))
    for arm, truth in ((1, 0.5), (0, 0.35)):
        for estimate in (policies.value(arm).ips, policies.value(arm).snips, policies.value(arm).dr):
            assert abs(estimate.value - truth) < 4 * estimate.standard_error
    assert policies.value(1).dr.standard_error < policies.value(1).ips.standard_error


def test_without_evidence_there_is_no_estimate():
    policies, _ = told(trials(1))
    assert policies.value(1).ips is None
    only, _ = told([Trial(n, 1, False, 0.5, 0.5) for n in range(5)])
    assert only.value(1).snips is None


def test_what_chance_did_not_decide_is_left_out():
    policies, _ = told([*trials(50), Trial(9, 1, False, 0.0, 1.0)])
    assert policies.value(0) == told(trials(50))[0].value(0)


def test_an_amended_quality_ends_where_telling_it_at_once_does():
    taken = trials(50)
    policies, expected = told(taken)
    other = replace(taken[-1], quality=1.0 - taken[-1].quality)
    policies.amend(taken[-1], other, expected[-1])
    at_once, _ = told([*taken[:-1], other])
    for arm in (0, 1):
        assert policies.value(arm).dr.value == pytest.approx(at_once.value(arm).dr.value)
        assert policies.means.mean(arm) == pytest.approx(at_once.means.mean(arm))


def test_what_was_saved_comes_back():
    policies, _ = told(trials(20))
    assert digest(OffPolicy.from_state(policies.state()).state()) == digest(policies.state())
