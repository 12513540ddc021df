"""What an audit found, in words that follow the records."""

import pytest

from sona.cli import findings
from sona.cli.findings import about, served, when
from sona.engine.events import Decided, Serving
from sona.engine.forgetting import Forgotten
from sona.guard.holdout import Arm


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        (Serving(), "shown what was learned, as every request was then; version 0"),
        (
            Serving(exposure=0.3, is_compared=True, is_identical=False, version=4),
            "as 30.0% of requests were; v",
        ),
        (Serving(exposure=0.3, is_compared=True), "were; both answers were the same; version 0"),
        (Serving(arm=Arm.FROZEN, exposure=0.1), "answered frozen; 10.0% of requests were shown what was learned"),
        (Serving(arm=Arm.FROZEN, exposure=0.1, is_held_out=True), "answered frozen, as it is held out"),
    ],
)
def test_how_a_request_was_answered_is_said_in_words(serving, words):
    assert words in served(serving)


def test_a_moment_is_a_date_and_a_strange_clock_is_seconds():
    assert when(1.7e9).startswith("2023-11-1")
    assert when(1e30) == "1e+30 s"


def test_a_rejected_candidate_is_no_version():
    assert about(Decided(0.0, "rejected", 4, "")) == "candidate for version 4"
    assert about(Decided(0.0, "rolled back", 3, "")) == "version 3"


def test_what_was_forgotten_is_counted(capsys):
    findings.forgotten("anna", Forgotten(1, 2, 3, 4), is_wiping=True)
    out, err = capsys.readouterr()
    assert "Forgot 'anna': 1 memory, 2 requests, feedback given 3 times." in out
    assert "4 entries of others named" in out
    assert "bytes of theirs may still be in the file" in err
    findings.forgotten("bob", Forgotten(), is_wiping=False)
    out, err = capsys.readouterr()
    assert (out, err) == ("Nothing of 'bob' was there.\n", "")
