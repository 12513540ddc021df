"""The report: the verdict follows the interval, and text and JSON say the same."""

import json
from dataclasses import astuple

import numpy as np
import pytest

from sona.config import GuardConfig
from sona.guard.comparison import Lift
from sona.guard.guard import Guard, Observation
from sona.guard.holdout import Arm
from sona.guard.report import Report, Verdict, verdict_of


def reported(count: int = 400, lift: float = 0.0, holdout: float = 0.5, alpha: float = 0.05) -> Report:
    guard = Guard(GuardConfig(warm_up=0, budget=1.0, holdout=holdout, alpha=alpha), b"secret")
    rng = np.random.default_rng(0)
    for number in range(count):
        found = guard.assign(f"u{number}")
        guard.served(found.arm, is_compared=found.is_compared)
        quality = float(rng.random() < 0.4 + lift * (found.arm is Arm.LEARNED))
        guard.observe(
            Observation(
                f"u{number}",
                found.arm,
                found.exposure,
                found.is_compared,
                is_identical=False,
                quality=quality,
                common=0.0,
                at=float(number),
                pattern_id=number % 3,
                latency_us=120.0,
                learning_us=20.0,
            )
        )
    return guard.report()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.2, Verdict.IMPROVED),
        (-0.2, -0.001, Verdict.WORSE),
        (-0.1, 0.1, Verdict.NO_EVIDENCE),
        (0.0, 0.2, Verdict.NO_EVIDENCE),
        (-0.2, 0.0, Verdict.NO_EVIDENCE),
    ],
)
def test_the_verdict_is_whether_the_interval_excludes_nothing(low, high, verdict):
    assert verdict_of(Lift(10, (low + high) / 2, low, high)) is verdict


def test_the_text_says_the_verdict_the_interval_and_what_it_rests_on():
    report = reported(lift=0.5)
    text = str(report)
    assert text == report.as_text()
    first = text.splitlines()[0]
    assert first.startswith("improved: lift +0.")
    assert f"[{report.lift.low:+.4f}, {report.lift.high:+.4f}], 95 % valid at any time, 400 compared outcomes" in first
    for said in ("served", "SNIPS", "version 0", "held out: 50.0%", "120 us", "100 us without", "at level 0.05 / 3"):
        assert said in text
    assert f"gained {report.gain.total:+.1f} [{report.gain.low:+.1f}, {report.gain.high:+.1f}]" in text
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize(("alpha", "said"), [(0.05, "95 %"), (0.1, "90 %"), (0.001, "99.9 %")])
def test_the_confidence_is_said_in_percent(alpha, said):
    assert f", {said} valid at any time" in reported(count=50, alpha=alpha).as_text().splitlines()[0]


def test_without_evidence_the_text_says_why_and_what_is_needed():
    report = reported(count=60, lift=0.2)
    text = report.as_text()
    assert text.startswith("no evidence: ")
    assert "may be chance" in text
    assert f"about {report.required:,} more outcomes" in text


def test_before_the_first_outcome_nothing_is_said():
    text = reported(count=0).as_text()
    assert text.startswith("no evidence: nothing compared yet")
    assert "no compared request has an outcome yet" in text


def test_json_holds_every_field_and_reads_back():
    report = reported(lift=0.5)
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert set(plain) == set(Report.__slots__)
    assert plain["verdict"] == "improved"
    assert [plain["lift"][name] for name in ("trials", "value", "low", "high")] == [*astuple(report.lift)]
    assert plain["gain"]["total"] == report.gain.total
    assert plain["learned"]["value"]["dr"]["value"] == report.learned.value.dr.value
    assert len(plain["curve"]) == 20
    assert len(plain["patterns"]) == 3


def test_arms_are_what_was_served_and_answered():
    report = reported(count=400)
    assert report.learned.served + report.frozen.served == 400
    assert report.learned.answered_share == 1.0
    assert abs(report.frozen.mean_quality - 0.4) < 0.1


def test_a_report_with_every_standing_fits_a_terminal():
    text = reported(count=100, holdout=0.0).as_text()
    assert "loss allowed" not in text
    assert max(map(len, text.splitlines())) <= 120
