"""The command line as real processes: killed, interrupted, piped, without its packages."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sona import SonaEngine

SONA = [sys.executable, "-m", "sona"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("SONA_DB", raising=False)
    return tmp_path


def sona(*arguments, **options):
    return subprocess.run([*SONA, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def write_memories(path, first, count):
    rng = np.random.default_rng(first)
    words = [f"word{number}" for number in range(400)]
    lines = (json.dumps({"id": f"t{first + n}", "text": " ".join(rng.choice(words, 12))}) for n in range(count))
    path.write_text("\n".join(lines))


def test_python_m_sona_is_sona():
    assert sona("--version").stdout.startswith("sona ")
    installed = subprocess.run([Path(sys.executable).parent / "sona", "--version"], capture_output=True, check=True)
    assert installed.stdout.startswith(b"sona ")


@pytest.mark.slow
def test_a_killed_remember_leaves_a_beginning_of_what_it_was_to_keep(folder):
    write_memories(folder / "old.jsonl", 0, 50)
    assert sona("remember", "old.jsonl").returncode == 0
    old = (folder / "sona.db").read_bytes()
    write_memories(folder / "new.jsonl", 50, 400)
    seen = set()
    for turn in range(6):
        (folder / "sona.db").write_bytes(old)
        for beside in ("sona.db-wal", "sona.db-shm"):
            (folder / beside).unlink(missing_ok=True)
        process = subprocess.Popen([*SONA, "remember", "new.jsonl"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(0.3 + 0.3 * turn)
        process.kill()
        process.communicate()
        count = SonaEngine.load(folder / "sona.db").memory_count
        assert 50 <= count <= 450
        seen.add(count)
        assert sona("status").returncode == 0
    assert 50 in seen


@pytest.mark.slow
def test_killed_questions_feedback_and_learning_leave_a_whole_file(folder):
    write_memories(folder / "old.jsonl", 0, 30)
    assert sona("remember", "old.jsonl").returncode == 0
    with SonaEngine.open(folder / "sona.db") as engine:
        for turn in range(40):
            response = engine.process(f"word{turn} word{turn + 1}")
            engine.feedback(response.trajectory_id, quality=1.0)
    for turn in range(6):
        command = (["learn", "--force"], ["ask", "word1 word2"])[turn % 2]
        process = subprocess.Popen([*SONA, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3 + 0.15 * turn)
        process.kill()
        process.wait()
        metrics = SonaEngine.load(folder / "sona.db").metrics()
        assert metrics.memories == 30
        assert metrics.feedbacks == 40
        assert (metrics.version, metrics.learned) in ((0, 0), (1, 40))


# Where a runner in the background ignores Ctrl-C, its children would too.
LISTENING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def interrupted(command, until, **options):
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *SONA, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    said = ""
    while until not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, said + err


@pytest.mark.slow
def test_ctrl_c_while_remembering_is_one_line_and_the_command_again_goes_on(folder):
    write_memories(folder / "many.jsonl", 0, 6_000)
    code, out, err = interrupted(["remember", "many.jsonl"], "Indexing")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    again = json.loads(sona("remember", "many.jsonl", "--json").stdout)  # the lock went with the process
    assert (again["known"], again["new"], again["total"]) == (6_000, 0, 6_000)


@pytest.mark.slow
def test_ctrl_c_in_the_demo_is_one_line(folder):
    code, out, err = interrupted(["demo", "--passes", "1"], "Learning from clicks")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert list((folder / "demo-output").iterdir()) == []


def test_a_reader_that_leaves_early_is_no_traceback(folder):
    write_memories(folder / "some.jsonl", 0, 20)
    sona("remember", "some.jsonl")
    process = subprocess.Popen([*SONA, "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert "Traceback" not in err


def test_logs_hold_no_bars_and_json_stands_alone(folder):
    write_memories(folder / "some.jsonl", 0, 200)
    result = sona("remember", "some.jsonl", "--json")
    assert json.loads(result.stdout)["new"] == 200
    assert result.stderr.splitlines() == ["Remembering", "Indexing"]


def test_a_terminal_without_the_letters_gets_their_numbers(folder):
    (folder / "notes.txt").write_text("Grüße aus 東京", encoding="utf-8")
    sona("remember", "notes.txt")
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    shown = sona("ask", "grüße", env=plain)
    assert shown.returncode == 0
    assert "Gr\\xfc\\xdfe" in shown.stdout
    assert json.loads(sona("ask", "grüße", "--json", env=plain).stdout)["text"] == "Grüße aus 東京"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_packages_it_names_the_pip_line(missing):
    script = f"import sys; sys.modules[{missing!r}] = None; from sona.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: the command line needs typer and rich: pip install 'sona[cli]'\n"


def test_without_scikit_learn_remember_names_the_pip_line_and_keeps_the_texts(folder):
    (folder / "notes.txt").write_text("hello there")
    script = "import sys; sys.modules['sklearn'] = None; from sona.cli import main; main()"
    command = [sys.executable, "-c", script, "remember", "notes.txt"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'sona[text]'" in result.stderr.splitlines()[-1]
    again = json.loads(sona("remember", "notes.txt", "--json").stdout)
    assert (again["new"], again["known"]) == (0, 1)
