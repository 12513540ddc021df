import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from demo_toys import RememberingRanker, toy_task

from sona.demo.curve import plot, svg
from sona.demo.experiment import FrozenRanker, run
from sona.demo.outcome import Plan, Report, conclusion, signed, summarise
from sona.demo.page import page, write_page
from sona.errors import InvalidValue, MissingExtra, StoreError


def outcome(ranker, seed=0, **plan):
    return run(toy_task(seed, passes=8), ranker, rng=np.random.default_rng(seed), plan=Plan(**plan))


@pytest.fixture(scope="module")
def report():
    outcomes = [outcome(RememberingRanker(), seed) for seed in (0, 1)]
    controls = {"shuffled clicks": [outcome(RememberingRanker(), shuffle=True)]}
    return Report("Toys & <tests>", outcomes, controls, {"Adapter": "rank <2>"})


class Outline(HTMLParser):
    """Collects tags, attributes and text; complains about tags that do not close."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(text):
    parser = Outline()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_well_formed_and_loads_nothing(report):
    text = page(report)
    parsed = outline(text)
    assert "script" not in parsed.tags
    assert "link" not in parsed.tags
    loaded = [value for name, value in parsed.attributes if name in {"src", "href", "xlink:href"}]
    assert all(value.startswith("#") for value in loaded)
    assert "url(http" not in text
    assert "@import" not in text


def test_the_page_can_be_read_without_eyes_or_colour(report):
    parsed = outline(page(report))
    attributes = dict(parsed.attributes)
    assert ("lang", "en") in parsed.attributes
    assert attributes["aria-label"].startswith("Learning curve. Learning helped requests asked again")
    assert parsed.tags.count("h1") == 1
    assert {"caption", "figcaption", "main"} <= set(parsed.tags)
    assert {"helped", "no evidence", "✓ right"} <= {part.strip() for part in parsed.text}


def test_the_page_follows_light_and_dark(report):
    text = page(report)
    assert "prefers-color-scheme: dark" in text
    drawn = svg(report)
    assert "var(--repeat)" in drawn
    assert "var(--held-out)" in drawn
    assert not re.search(r"(stroke|fill): #[0-9a-f]{6}", drawn)


def test_the_page_says_what_the_numbers_say(report):
    text = page(report)
    for part in summarise(report.outcomes):
        for value in (part.frozen, part.learned):
            assert f"<td>{value:.3f}</td>" in text
        change = part.difference
        assert f"<td>{signed(change.low)} to {signed(change.high)}</td>" in text
    assert "Control: shuffled clicks" in text


def test_what_users_typed_cannot_become_markup(report):
    text = page(report)
    assert "<tests>" not in text
    assert "Toys &amp; &lt;tests&gt;" in text
    assert "rank &lt;2&gt;" in text


def test_the_same_report_gives_the_same_page(report):
    assert page(report) == page(report)


def test_the_conclusion_claims_only_what_the_interval_carries(report):
    said = conclusion(summarise(report.outcomes))
    assert said.startswith("Learning helped requests asked again (+")
    assert "There is no evidence of a change for requests never seen (0.000; 0.000 to 0.000)" in said
    assert "harmed" not in said
    frozen = conclusion(summarise([outcome(FrozenRanker())]))
    assert "helped" not in frozen
    assert conclusion(summarise(report.controls["shuffled clicks"])).find("helped requests asked again") == -1


def test_files_are_written(report, tmp_path):
    write_page(report, tmp_path / "report.html")
    plot(report, tmp_path / "curve.png")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(report)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(StoreError):
        write_page(report, tmp_path / "none" / "report.html")


def test_missing_matplotlib_names_the_extra(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"sona\[demo\]"):
        page(report)


def test_a_report_needs_an_outcome():
    with pytest.raises(InvalidValue, match="at least one"):
        Report("empty", [])
