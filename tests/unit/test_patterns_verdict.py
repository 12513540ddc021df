"""Verdicts: better is said on evidence only, and every other case says why not."""

import numpy as np
import pytest
from scipy import stats

from sona.errors import InvalidValue
from sona.patterns.verdict import judge
from sona.types import QueryTrajectory, TrajectoryStep

QUERY = np.ones(2, np.float32)


def served(quality, *, route=None, steps=(), **parameters) -> QueryTrajectory:
    made = tuple(TrajectoryStep(QUERY, ref=ref, reward=reward) for ref, reward in steps)
    return QueryTrajectory(0, QUERY, steps=made, final_quality=quality, model_route=route, parameters=parameters)


def outcomes(mean: float, n: int, seed: int) -> list[float]:
    return np.clip(mean + 0.1 * np.random.default_rng(seed).normal(size=n), 0.0, 1.0).tolist()


class TestRoutes:
    def test_the_better_route_wins_with_scipys_p_value(self):
        cheap, dear = outcomes(0.5, 30, 0), outcomes(0.7, 12, 1)
        found = judge([served(q, route="cheap") for q in cheap] + [served(q, route="dear") for q in dear], 7)
        assert (found.pattern_id, found.kind, found.choice, found.default) == (7, "route", "dear", "cheap")
        assert found.p_value == pytest.approx(stats.ttest_ind(dear, cheap, equal_var=False).pvalue, rel=1e-9)
        assert found.improvement == pytest.approx(np.mean(dear) - np.mean(cheap))
        assert (found.support, found.default_support) == (12, 30)
        assert found.consistency == np.mean(np.array(dear) > np.mean(cheap))
        assert found.is_significant

    def test_a_given_default_is_the_one_to_beat(self):
        witnesses = [served(q, route="a") for q in outcomes(0.5, 30, 0)]
        witnesses += [served(q, route="b") for q in outcomes(0.7, 12, 1)]
        found = judge(witnesses, 0, default="b")
        assert (found.choice, found.default, found.is_significant) == ("b", "b", False)
        assert "no route did better" in found.reason

    def test_several_rivals_are_corrected(self):
        samples = {"base": outcomes(0.5, 40, 0), "x": outcomes(0.55, 20, 1), "y": outcomes(0.6, 20, 2)}
        found = judge([served(q, route=name) for name, values in samples.items() for q in values], 0)
        raw = {n: stats.ttest_ind(samples[n], samples["base"], equal_var=False).pvalue for n in "xy"}
        assert found.choice == "y"
        assert found.p_value == pytest.approx(2.0 * min(raw.values()), rel=1e-9)

    def test_a_proven_rival_goes_before_a_lucky_one(self):
        witnesses = [served(q, route="base") for q in outcomes(0.5, 40, 0)]
        witnesses += [served(q, route="proven") for q in outcomes(0.65, 40, 1)]
        witnesses += [served(q, route="lucky") for q in (0.5, 1.0)]
        assert judge(witnesses, 0).choice == "proven"

    def test_no_effect_is_rarely_called_significant(self):
        rng = np.random.default_rng(0)
        claims = 0
        for _ in range(400):
            qualities = rng.random(40)
            claims += judge([served(q, route="ab"[i % 2]) for i, q in enumerate(qualities)], 0).is_significant
        assert claims <= 20  # one-sided claim at a two-sided level of .05: 10 expected

    def test_constant_outcomes_are_judged_exactly(self):
        many = [served(0.0, route="a")] * 8 + [served(1.0, route="b")] * 6
        few = [served(0.0, route="a")] * 3 + [served(1.0, route="b")] * 2
        assert judge(many, 0).is_significant
        assert "permutation" in judge(many, 0).reason
        assert not judge(few, 0).is_significant


class TestOtherKinds:
    def test_parameters(self):
        witnesses = [served(q, ef=40) for q in outcomes(0.5, 20, 0)] + [served(q, ef=100) for q in outcomes(0.8, 20, 1)]
        for kind in ("ef", "auto"):
            found = judge(witnesses, 0, kind=kind)
            assert (found.kind, found.choice, found.default, found.is_significant) == ("ef", 100, 40, True)

    def test_memories_are_judged_by_their_own_rewards(self):
        witnesses = [
            served(0.5, steps=[("m1", a), ("m2", b), ("m3", None)])
            for a, b in zip(outcomes(0.3, 20, 0), outcomes(0.6, 20, 1), strict=True)
        ]
        found = judge(witnesses, 0)
        assert (found.kind, found.choice, found.default, found.support) == ("memory", "m2", "m1", 20)
        assert found.is_significant

    def test_auto_prefers_routes_and_ignores_what_never_varies(self):
        witnesses = [served(q, route="ab"[i % 2], ef=i % 2) for i, q in enumerate(outcomes(0.5, 20, 0))]
        assert judge(witnesses, 0).kind == "route"
        same_route = [served(q, route="a", ef=i % 2, other=1) for i, q in enumerate(outcomes(0.5, 20, 0))]
        assert judge(same_route, 0).kind == "ef"

    def test_of_several_parameters_auto_takes_the_best_known(self):
        witnesses = [served(q, ef=i % 2) for i, q in enumerate(outcomes(0.5, 20, 0))]
        witnesses += [served(q, probes=i % 2) for i, q in enumerate(outcomes(0.5, 6, 1))]
        assert judge(witnesses, 0).kind == "ef"


class TestTooLittle:
    def check(self, verdict, *words):
        assert not verdict.is_significant
        assert verdict.p_value == 1.0
        assert all(word in verdict.reason for word in words)

    def test_nothing_at_all(self):
        self.check(judge([], 0), "nothing to compare")
        self.check(judge([served(0.5)], 0), "nothing to compare")
        self.check(judge([served(None, route="a")], 0, kind="route"), "too little data")

    def test_one_outcome_a_side(self):
        self.check(judge([served(0.1, route="a"), served(0.9, route="b")], 0), "too little data", "default")
        three = [served(0.1, route="a"), served(0.2, route="a"), served(0.9, route="b")]
        self.check(judge(three, 0), "too little data", "no other route")

    def test_an_unknown_default(self):
        found = judge([served(0.1, route="a")] * 3, 0, default="never", kind="route")
        self.check(found, "too little data", "never")
        assert found.choice is None

    def test_empty_kind(self):
        with pytest.raises(InvalidValue):
            judge([], 0, kind="")
