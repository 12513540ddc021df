"""The report's page: it says what the report says, in well-formed HTML that loads nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from sona.cli.report_page import Audit, page, sentence, write_page
from sona.config import GuardConfig
from sona.engine import SonaEngine
from sona.engine.events import Decided
from sona.engine.versions import VersionRecord
from sona.errors import StoreError
from sona.guard.comparison import Lift
from sona.guard.guard import Guard, Observation
from sona.guard.holdout import Arm
from sona.guard.report import Verdict

VOID = {"meta"}  # of the rest, what is empty closes itself


def observed(count, lift=0.5, **settings):
    guard = Guard(GuardConfig(**{"warm_up": 0, "budget": 1.0, "holdout": 0.5, **settings}), b"secret")
    rng = np.random.default_rng(0)
    for number in range(count):
        found = guard.assign(f"u{number}")
        guard.served(found.arm, is_compared=found.is_compared)
        quality = float(rng.random() < 0.3 + lift * (found.arm is Arm.LEARNED))
        guard.observe(
            Observation(
                f"u{number}",
                found.arm,
                found.exposure,
                found.is_compared,
                is_identical=False,
                quality=quality,
                common=0.0,
                at=1.7e9 + 60.0 * number,
                pattern_id=number % 3,
                latency_us=1500.0,
                learning_us=200.0,
            )
        )
    return guard.report()


IMPROVED = observed(400)


def audit(report=IMPROVED, **changes):
    versions = tuple(
        VersionRecord(
            n, n - 1, "d", 1.7e9 + n, n, 10 * n, {"patterns": n, "past_requests": 2 * n}, "committed by Loop B"
        )
        for n in (1, 2)
    )
    decisions = (
        Decided(1.7e9 + 3000.0, "rejected", 3, "change -0.02 on 40 held-out lists, p = 0.01"),
        Decided(1.7e9 + 9000.0, "rolled back", 1, "version 2 was found worse than frozen: <lift> -0.1"),
    )
    return replace(Audit(report, 1, versions, decisions, {0: "faq-<1>"}, "support & co.db", 1.8e9), **changes)


class Structure(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def read(html):
    found = Structure()
    found.feed(html)
    assert found.open == []
    return found, " ".join(" ".join(found.text).split())


def test_every_tag_is_closed_and_nothing_is_loaded():
    html = page(audit())
    found, _ = read(html)
    assert not found.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    assert '<meta name="viewport"' in html


def test_it_says_verdict_lift_interval_arms_and_costs():
    report = IMPROVED
    _, text = read(page(audit()))
    assert report.verdict is Verdict.IMPROVED
    for words in (
        "Improved",
        f"earn {report.lift.value:.3f} more a request",
        f"between {report.lift.low:+.3f} and {report.lift.high:+.3f} (95 %",
        "400 compared outcomes, of 400 requests",
        "50.0%",
        "no limit",
        "200 µs of learning in a request of 1.5 ms",
        f"{report.learned.value.dr.value:.3f} ± {report.learned.value.dr.standard_error:.3f}",
        f"Learned {report.learned.served}",
        f"Frozen {report.frozen.served}",
        "of 3 patterns compared. Each interval is at level 0.05 / 3",
    ):
        assert words in text, words


def test_it_lists_versions_and_decisions_latest_first():
    _, text = read(page(audit()))
    assert text.index("Rolled back version 1") < text.index("Rejected candidate for version 3")
    assert re.search(r"1 2023-11-\S+ \S+ \S+ 0 10 1 2 in force", text)
    many = audit(decisions=tuple(Decided(1.7e9, "rejected", n, "why") for n in range(30)))
    assert "The latest 20 of 30." in page(many)


def test_what_others_wrote_is_escaped():
    html = page(audit())
    for raw, escaped in (
        ("faq-<1>", "faq-&lt;1&gt;"),
        ("support & co", "support &amp; co"),
        ("<lift>", "&lt;lift&gt;"),
    ):
        assert raw not in html
        assert escaped in html


def test_warnings_are_told_before_the_figures():
    html = page(audit(replace(IMPROVED, warnings=("the lift may mislead",))))
    assert html.index("the lift may mislead") < html.index("compared outcomes")


def test_nothing_known_is_said_as_such():
    report = observed(0, warm_up=100)
    _, text = read(page(audit(report, versions=(), decisions=(), in_force=0)))
    for words in (
        "No evidence",
        "Nothing was compared yet",
        "comparing begins after 100 requests",
        "The curve begins with the twentieth",
        "No pattern has compared outcomes yet",
        "None was committed yet",
        "None: no version was rejected",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("verdict", "value", "words"),
    [
        (Verdict.IMPROVED, 0.25, "are better than frozen ones: they earn 0.250 more a request, between +0.200"),
        (Verdict.WORSE, -0.25, "are worse than frozen ones: they earn 0.250 less a request, between \u22120.300"),
        (Verdict.NO_EVIDENCE, 0.01, "no evidence that learned answers earn more or less"),
    ],
)
def test_the_sentence_follows_the_verdict(verdict, value, words):
    lift = Lift(10, value, value - 0.05, value + 0.05)
    assert words in sentence(replace(IMPROVED, verdict=verdict, lift=lift))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"required": 1234}, "about 1,234 more outcomes would show this lift"),
        ({"verdict": Verdict.NO_EVIDENCE, "required": None}, "it cannot be said yet how many it takes"),
        ({"budget": 0.05, "budget_used": 0.4}, "40% at worst, of the budget is used: 5.0% of what frozen answers earn"),
        ({"mode": "off"}, "off answers are frozen, and nothing is learned"),
        ({"latency": None}, "- time that learning adds to a request"),
        ({"holdout": 0.0}, "none held out for good"),
    ],
)
def test_the_tiles_say_what_holds(changes, words):
    _, text = read(page(audit(replace(IMPROVED, **changes))))
    assert words in text


def test_a_budget_that_is_used_up_is_marked():
    used = replace(IMPROVED, budget=0.05, budget_used=1.7)
    assert 'class="full" style="width:100.0%"' in page(audit(used))
    assert "170%" in page(audit(used))


def test_an_engine_gives_what_the_page_tells():
    engine = SonaEngine(clock=lambda: 5.0)
    found = Audit.of(engine, name="x.db", at=7.0)
    assert (found.report.verdict, found.in_force, found.versions, found.decisions, found.worked) == (
        *(Verdict.NO_EVIDENCE, 0, (), ()),
        {},
    )
    read(page(found))


def test_a_page_is_written_whole_and_never_over_a_database(tmp_path):
    write_page(audit(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == page(audit())
    with SonaEngine.open(tmp_path / "x.db"):
        pass
    with pytest.raises(StoreError, match="is a database"):
        write_page(audit(), tmp_path / "x.db")
    with pytest.raises(StoreError, match="is a folder"):
        write_page(audit(), tmp_path)
