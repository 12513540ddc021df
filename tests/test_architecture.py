"""The house: imports go down, public names are what is exported, and the source keeps its habits."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import sona
import sona.tuner

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "sona"
MODULES = sorted(SOURCE.rglob("*.py"))
LINES = 400
LONGER: dict[str, str] = {}  # file -> why it is longer
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def named(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, FUNCTION))


each_module = pytest.mark.parametrize("path", MODULES, ids=named)


# -- imports -------------------------------------------------------------------------------------------------------


def test_imports_go_down_never_up_or_sideways():
    # In a process of its own: the linter configures logging for all who share one.
    command = "from importlinter.cli import lint_imports; print(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.rstrip().endswith("\n0"), done.stdout


def test_the_contracts_name_every_room():
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")} | {path.stem for path in SOURCE.glob("*.py")}
    text = (ROOT / "pyproject.toml").read_text()
    layers = text[text.index("layers = [") :]
    missing = {room for room in rooms - {"__init__", "__main__"} if f'sona.{room}"' not in layers.replace(" |", '"')}
    assert not missing


def run(code: str, **settings: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=120
    ).stdout.strip()


FOREIGN = """
import sys
foreign = {name.partition('.')[0] for name, module in sys.modules.items() if getattr(module, '__file__', None)}
print(sorted(foreign - set(sys.stdlib_module_names) - before))
"""
VECTORS_ALONE = """
import numpy as np
engine = sona.SonaEngine()
items, ids = np.eye(4), ["a", "b", "c", "d"]
for number in range(6):
    ranking = engine.rank(np.roll([1.0, 0.5, 0.0, 0.0], number), ids, items)
    engine.feedback(ranking.trajectory_id, rewards={ranking.ids[1]: 1.0})
    with engine.begin_trajectory(items[0]) as builder:
        builder.add_step(items[1], reward=0.9)
engine.background_learn(force=True)
engine.adapt(items), engine.find_patterns(items[0]), engine.tick(), engine.metrics(), engine.state()
"""


def test_importing_sona_imports_numpy_and_the_standard_library_alone():
    before = "import sys; before = {name.partition('.')[0] for name in sys.modules}\n"
    everything = "import sona; [getattr(sona, name) for name in sona.__all__]"
    assert run(f"{before}{everything}\n{FOREIGN}") == "['numpy', 'sona']"


def test_vectors_in_and_vectors_out_need_nothing_else():
    before = "import sys; before = {name.partition('.')[0] for name in sys.modules}\nimport sona\n"
    assert run(f"{before}{VECTORS_ALONE}{FOREIGN}") == "['numpy', 'sona']"


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "most_s"), [("sona", 0.06), ("sona; sona.SonaEngine", 0.13)])
def test_importing_sona_adds_little_to_importing_numpy(tmp_path, wanted, most_s):
    timed = "began = time.process_time(); import {}; print(time.process_time() - began)"
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # as it is after an installation
    both = f"import time; {timed.format('numpy')}; {timed.format(wanted)}"
    runs = [[float(line) for line in run(both, **compiled).split()] for _ in range(9)][2:]
    numpy_alone, added = (statistics.median(column) for column in zip(*runs, strict=True))
    # On a busy machine all is slower: numpy's own import, .06 s of work at rest, says by how much.
    assert added < most_s * max(1.0, numpy_alone / 0.06)


# -- public names --------------------------------------------------------------------------------------------------


def test_all_is_sorted_and_what_is_exported():
    named = {name: getattr(sona, name) for name in sona.__all__}  # some are imported when they are asked for
    exported = {
        name
        for name, value in {**vars(sona), **named}.items()
        if not isinstance(value, ModuleType)
        and name not in ("TYPE_CHECKING", "import_module")
        and (not name.startswith("_") or name == "__version__")
    }
    assert list(sona.__all__) == sorted(set(sona.__all__))
    assert set(sona.__all__) == exported


def test_the_public_names_of_the_tuner_are_those_it_lists():
    pytest.importorskip("psycopg")
    assert list(sona.tuner.__all__) == sorted(set(sona.tuner.__all__))
    assert set(sona.tuner.__all__) == set(sona.tuner._HOMES)
    for name in sona.tuner.__all__:
        assert getattr(sona.tuner, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sona.tuner.nothing


def test_the_package_says_that_it_is_typed():
    assert (SOURCE / "py.typed").is_file()


# -- habits --------------------------------------------------------------------------------------------------------


@each_module
def test_no_assert(path):
    assert not [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Assert)]


@each_module
def test_no_pickle_and_no_global_random_state(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve", "random"}
        if isinstance(node, ast.ImportFrom):
            assert node.module not in {"pickle", "marshal", "shelve", "random"}
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np.random":
            assert node.attr in {"default_rng", "Generator"}, node.lineno


def annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    arguments = node.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if argument.annotation is not None:
            yield ast.unparse(argument.annotation)
    if node.returns is not None:
        yield ast.unparse(node.returns)


@each_module
def test_public_signatures_say_what_they_take(path):
    for node in functions(path):
        if node.name.startswith("_") and not node.name.startswith("__"):
            continue
        where = f"{named(path)}:{node.lineno} {node.name}"
        options = node.args.kwarg
        assert options is None or ast.unparse(options.annotation).endswith(".kwargs"), f"{where} takes **{options.arg}"
        for annotation in annotations(node):
            words = {part.id for part in ast.walk(ast.parse(annotation)) if isinstance(part, ast.Name)}
            attributes = {part.attr for part in ast.walk(ast.parse(annotation)) if isinstance(part, ast.Attribute)}
            assert "Any" not in words | attributes, f"{where}: {annotation}"
        positional = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
        if "kernel" not in path.parts:  # whose calls are positional: keywords take as long as the work itself
            assert len(positional) <= 5, f"{where}: {positional}"


@each_module
def test_every_record_is_frozen_and_slotted(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for decorator in map(ast.unparse, node.decorator_list):
                if decorator.startswith("dataclass"):
                    assert "frozen=True" in decorator, f"{named(path)}:{node.lineno} {node.name}"
                    assert "slots=True" in decorator, f"{named(path)}:{node.lineno} {node.name}"


@each_module
def test_no_module_is_long(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if named(path) in LONGER:
        assert lines > LINES, f"{named(path)} is short again: take it out of the list"
    else:
        assert lines <= LINES, f"{named(path)} has {lines} lines"


@each_module
def test_no_function_is_long(path):
    for node in functions(path):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if body:
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
            assert lines <= 60, f"{named(path)}:{node.lineno} {node.name} has {lines} lines"


@each_module
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(parsed(path))
