"""The bench against peers: what it writes, what it does without them, and what it refuses to time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
KEYS = {"name", "sona", "numpy", "pypi", "npm", "unit", "goal", "met"}


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import peers.contest
    import peers.page

    return peers


def run(name: str, folder: Path, *options: str) -> tuple[list[dict], str]:
    target = folder / "figures.json"
    command = [sys.executable, str(BENCH / name), "--quick", "--json", str(target), *options]
    environment = os.environ | {"PATH": ""} if "--no-install" in options else None
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text()), done.stdout


@pytest.mark.slow
def test_every_figure_is_measured_and_a_peer_that_is_not_there_is_skipped_with_a_reason(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n", encoding="utf-8")
    figures, printed = run("speed_peers.py", tmp_path, "--no-install", "--markdown", str(page))  # and no node either
    for figure in figures:
        assert set(figure) == KEYS
        assert figure["npm"] is None
        assert figure["unit"] in ("us", "ms", "s", "MB", "x", "%")
        assert figure["goal"] is figure["met"] is None  # small sizes are held to none
        if figure["unit"] != "x":
            assert np.isfinite(figure["sona"])
            assert figure["sona"] > 0.0
            assert figure["numpy"] is None if figure["unit"] == "%" else figure["numpy"] > 0.0
        assert figure["name"] in printed
    names = "\n".join(figure["name"] for figure in figures)
    for measured in ("forward", "learn", "find_patterns", "extraction", "inertia", "constraints", "anchor", "Fisher"):
        assert measured in names
    for measured in ("median", "p99 under 8 threads", "allocated", "resident", "import sona", "SonaEngine"):
        assert measured in names
    assert all(figure["sona"] is None for figure in figures if "faster than npm" in figure["name"])
    machine = json.loads((tmp_path / "figures.json.machine.json").read_text())
    assert machine["skipped"]["npm"] == "node is not installed"
    assert "npm is absent: node is not installed" in printed
    assert machine["numpy"].startswith(np.__version__)
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n<!-- figures: begin -->\n| figure |")
    assert written.endswith("<!-- figures: end -->\nafter\n")
    assert "old" not in written
    assert sum(f"| {figure['name']} |" in written for figure in figures) == len(figures)


@pytest.mark.slow
def test_how_everything_grows(tmp_path):
    growths, printed = run("speed_growth.py", tmp_path)
    for growth in growths:
        assert len(growth["sizes"]) == len(growth["values"]) == 3
        assert min(growth["values"]) > 0.0
        expected = np.polyfit(np.log(growth["sizes"]), np.log(growth["values"]), 1)[0]
        assert growth["exponent"] == pytest.approx(expected)
        assert growth["name"] in printed
    assert {growth["varied"] for growth in growths} >= {"dimension", "patterns", "trajectories", "memories"}


def test_a_goal_is_met_on_its_own_side_and_not_at_all_without_a_value(peers):
    figure = peers.contest.PeerFigure
    assert figure("time", 1.0, None, None, None, "us", 1.0).met is True
    assert figure("time", 1.1, None, None, None, "us", 1.0).met is False
    assert figure("time", 1.1, None, None, None, "us").met is None
    ratio = peers.contest.times_faster(figure("time", 2.0, None, None, 30.0, "us"), "npm", 10.0)
    assert (ratio.sona, ratio.met, ratio.unit) == (15.0, True, "x")
    absent = peers.contest.times_faster(figure("time", 2.0, None, None, 30.0, "us"), "pypi", 4.0)
    assert (absent.sona, absent.met, absent.goal) == (None, None, 4.0)


def test_a_wrong_answer_is_not_timed(peers):
    peers.contest.require("close", [1.0, 2.0], [1.0, 2.0 + 1e-6])
    with pytest.raises(peers.contest.WrongAnswer, match="far"):
        peers.contest.require("far", [1.0, 2.0], [1.0, 2.1])


DRIVER = """
import json, sys
print(json.dumps({"version": "7"}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "run" in asked:
        print("no more", file=sys.stderr)
        sys.exit(3)
    known = {"prepared": 0} if asked["prepare"] == "known" else {"absent": True}
    print(json.dumps(known), flush=True)
"""


def test_a_peer_that_dies_is_absent_from_its_figure_and_the_rest_goes_on(peers, capsys):
    from peers.children import Command, Peer, PeerLost, Question

    peer = Peer(Command([sys.executable, "-c", DRIVER], os.environ))
    try:
        assert peer.version == "7"
        assert peer.source(Question("unknown", {})) is None
        contest = peers.contest.Contest("case", "ms", lambda: 0.002, lambda: 0.001, Question("known", {}), 3.0, 4)
        figure = contest.held({"npm": peer})
        assert (figure.sona, figure.numpy, figure.npm, figure.met) == (2.0, 1.0, None, True)
        assert capsys.readouterr().out.count("no more") == 1
        assert contest.held({"npm": peer}).npm is None
    finally:
        peer.close()
    with pytest.raises(PeerLost, match="ModuleNotFoundError"):
        Peer(Command([sys.executable, "-c", "import a_package_that_nobody_has"], os.environ))


def test_medians_of_rounds_are_in_the_units_of_the_figure(peers):
    values = iter([5e-6, 1e-6, 2e-6])
    figure = peers.contest.Contest("case", "us", lambda: next(values), rounds=3).held({})
    assert figure.sona == pytest.approx(2.0)


def test_controls_do_what_they_say(peers):
    from peers.controls import Constraint, Fisher, inertia_of, kmeans, nearest

    rng = np.random.default_rng(0)
    centres = 10.0 * np.eye(4, 8)
    points = (np.repeat(centres, 25, axis=0) + 0.1 * rng.normal(size=(100, 8))).astype(np.float32)
    expected = float(((points - np.repeat(points.reshape(4, 25, 8).mean(axis=1), 25, axis=0)) ** 2).sum())
    assert inertia_of(points, kmeans(points, 4, rng)) == pytest.approx(expected, rel=1e-4)
    rows, scores = nearest(points, points[30], 3)
    assert rows.tolist() == np.argsort(-(points @ points[30]))[:3].tolist()
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    g, w, anchor, stiffness = rng.normal(size=(4, 8)).astype(np.float32) ** 2
    found = Constraint(stiffness, anchor, 0.1).apply(g, w, np.empty_like(g))
    np.testing.assert_allclose(found, (g + stiffness * (w - anchor)) / (1.0 + 0.1 * stiffness), rtol=1e-5)
    fisher = Fisher(8, 0.9)
    fisher.update(g)
    np.testing.assert_allclose(fisher.value(), g * g, rtol=1e-5)  # corrected for its start at zero


def test_numbers_keep_three_digits_that_count(peers):
    numbers = [peers.page.number(value) for value in (0.1234, 12.345, 999.6, 1234.5, None)]
    assert numbers == [".123", "12.3", "1,000", "1,234", "-"]


def test_without_leave_to_install_a_peer_that_is_not_there_is_skipped_and_nothing_is_fetched(peers, tmp_path):
    from peers.install import assembled

    field = assembled(may_install=False, cache=tmp_path / "cache")
    assert not field.peers
    assert set(field.skipped) == {"pypi", "npm"}
    assert "nothing may be installed" in field.skipped["pypi"]
    assert not (tmp_path / "cache").exists()
