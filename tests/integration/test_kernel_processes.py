"""A process runs on the kernel it was asked to, from its first request to its last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sona import kernel

ROOT = Path(__file__).parents[2]
NATIVE = kernel.chosen.name != "numpy" or kernel.chosen.reason == "SONA_KERNEL asks for it"

STORY = """
import json
import numpy as np
from sona import SonaConfig, SonaEngine, kernel

rng = np.random.default_rng(0)
items = rng.normal(size=(30, 16)).astype(np.float32)
ids = [f"d{k}" for k in range(30)]
engine = SonaEngine(SonaConfig(hidden_dim=16))
shown = []
for turn in range(40):
    x = items[turn % 5] + 0.1 * rng.normal(size=16).astype(np.float32)
    ranking = engine.rank(x, ids, items, k=5)
    shown.append(list(ranking.ids))
    engine.feedback(ranking.trajectory_id, rewards={ranking.ids[turn % 3]: 1.0})
engine.background_learn()
adapted = engine.adapt(items)
print(json.dumps({
    "kernel": str(kernel.chosen),
    "shown": shown,
    "moved": float(np.linalg.norm(adapted - items)),
    "adapted": adapted.astype(float).tolist(),
}))
"""


def run_in(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def run(wanted: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SONA_KERNEL": wanted, "PYTHONWARNINGS": "error"}
    return run_in(ROOT, environment, sys.executable, *command)


def told(wanted: str) -> dict[str, object]:
    done = run(wanted, "-c", STORY)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_small_engine_runs_on_numpy_from_end_to_end():
    found = told("numpy")
    assert found["kernel"] == "numpy (SONA_KERNEL asks for it)"
    assert found["moved"] > 0.0
    assert len(found["shown"]) == 40


@pytest.mark.skipif(not NATIVE, reason=f"no compiled kernel: {kernel.chosen}")
def test_every_kernel_tells_the_same_story():
    numpy, baseline, best = told("numpy"), told("baseline"), told("")
    assert baseline["kernel"] == "native baseline"
    assert str(best["kernel"]).startswith("native ")
    assert {**best, "kernel": ""} == {**baseline, "kernel": ""}  # bit for bit
    assert best["shown"] == numpy["shown"]
    for row, other in zip(best["adapted"], numpy["adapted"], strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)


LIFE = """
import sys
import numpy as np
from sona import SonaConfig, SonaEngine

vectors = np.eye(16, dtype=np.float32)
ids = [f"d{k}" for k in range(16)]
with SonaEngine.open(sys.argv[1], SonaConfig(hidden_dim=16)) as engine:
    for turn in range(int(sys.argv[2])):
        ranking = engine.rank(vectors[turn % 4] + 0.1, ids, vectors, k=5)
        engine.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    print(engine.metrics().feedbacks, repr(engine.adapt(vectors[0]).astype(float).tolist()))
"""


@pytest.mark.skipif(not NATIVE, reason=f"no compiled kernel: {kernel.chosen}")
def test_a_file_learned_with_one_kernel_opens_with_the_other_and_goes_on(tmp_path):
    path, counts, adapted = str(tmp_path / "life.db"), [], []
    for wanted, turns in (("", 12), ("numpy", 0), ("numpy", 3), ("", 3)):
        done = run(wanted, "-c", LIFE, path, str(turns))
        assert done.returncode == 0, done.stderr
        count, _, numbers = done.stdout.partition(" ")
        counts.append(int(count))
        adapted.append(json.loads(numbers))
    assert counts == [12, 12, 15, 18]
    assert adapted[1] == pytest.approx(adapted[0], rel=1e-5, abs=1e-6)
    assert adapted[2] != adapted[1]


@pytest.mark.skipif(not NATIVE, reason=f"no compiled kernel: {kernel.chosen}")
def test_a_kernel_that_is_not_known_is_a_config_error_in_one_line():
    done = run("nonsense", "-c", "import sona.kernel")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sona.errors.ConfigError: SONA_KERNEL: expected numpy, baseline, avx2 or avx512")
    assert "'nonsense'" in last


@pytest.mark.skipif(not NATIVE, reason=f"no compiled kernel: {kernel.chosen}")
def test_the_command_line_says_so_without_a_traceback(tmp_path: Path):
    start = "import sys; from sona.cli import main; sys.argv[:1] = ['sona']; main()"
    done = run("nonsense", "-c", start, "status", "--db", str(tmp_path / "none.db"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: SONA_KERNEL: expected numpy")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a package is made from, and nothing that was built before."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"))
    return folder


def installed(sources: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Install the sources away from them, with the tools of this environment, and run what is there."""
    clean = {key: value for key, value in os.environ.items() if key not in {"SONA_KERNEL", "PYTHONPATH", "CC"}}
    work = shutil.copytree(sources, folder / "sources")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    site, smoke = str(folder / "site"), str(Path(__file__).with_name("kernel_smoke.py"))
    made = run_in(folder, {**clean, **environment}, *pip, "--disable-pip-version-check", "--target", site, str(work))
    assert made.returncode == 0, made.stderr
    done = run_in(folder, {**clean, "PYTHONPATH": site}, sys.executable, smoke)
    assert done.returncode == 0, done.stderr
    assert f"at {folder / 'site' / 'sona'}: " in done.stdout
    return done


@pytest.mark.slow
def test_without_a_compiler_the_sources_install_and_run_on_numpy(sources, tmp_path):
    done = installed(sources, tmp_path, CC=shutil.which("false") or "/bin/false")
    assert "kernel: numpy (the compiled kernel does not load: " in done.stdout
    assert (tmp_path / "site" / "sona" / "kernel" / "_native.pyi").exists()
    assert not list((tmp_path / "site" / "sona" / "kernel").glob("*.so"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc") and not shutil.which("clang"), reason="neither gcc nor clang is here")
def test_with_a_compiler_the_sources_install_with_the_compiled_kernel_and_without_its_sources(sources, tmp_path):
    done = installed(sources, tmp_path)
    assert "kernel: native " in done.stdout
    found = {path.name for path in (tmp_path / "site" / "sona" / "kernel").rglob("*")}
    assert {"_native.pyi", "reference.py"} <= found
    assert not [name for name in found if name.endswith((".c", ".h"))]


FOREIGN = """
import runpy
from types import SimpleNamespace

import setuptools
from setuptools.errors import CompileError

given = {}
setuptools.setup = given.update
runpy.run_path("setup.py")
command = given["cmdclass"]["build_ext"](setuptools.Distribution())
command.compiler = SimpleNamespace(compiler_type="msvc")
(extension,) = given["ext_modules"]
try:
    command.build_extension(extension)
except CompileError as error:
    print(error, extension.optional)
"""


def test_msvc_is_left_alone_and_told_so(sources):
    done = run_in(sources, dict(os.environ), sys.executable, "-c", FOREIGN)
    assert done.stdout == "the kernel needs GCC or Clang, not MSVC; SONA runs on numpy here True\n", done.stderr
