"""What the documents say is what the code does: commands, options, settings, examples and blocks of code."""

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
import typer

from sona import config
from sona.cli.app import app
from sona.errors import ConfigError

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
RECORDS = [value for name, value in sorted(vars(config).items()) if name.endswith("Config")]
BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections(text):
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(path, language):
    return [code for name, code in BLOCK.findall(path.read_text(encoding="utf-8")) if name == language]


def run(command, folder, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for name in ("SONA_DB", "FORCE_COLOR"):
        environment.pop(name, None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False, **options
    )


# -- the command line ----------------------------------------------------------------------------------------------


def commands(group, before=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_has_a_section_and_every_section_a_command():
    named = {title.removeprefix("sona ") for title in sections(CLI) if title.startswith("sona ")}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_command_is_documented_and_no_other(name):
    section = sections(CLI)[f"sona {name}"]
    rows = set(re.findall(r"^\| `(--?[a-z-]+)", section, re.MULTILINE))
    options, arguments = set(), set()
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            arguments.add(parameter.metavar)
        else:
            options.update([*parameter.opts, *parameter.secondary_opts])
    assert rows == options - {"--help", "-h"}
    for argument in arguments:
        assert re.search(rf"sona {name} .*\b{argument}\b", section), argument
    assert f"sona {name}" in "".join(BLOCK.sub(r"\2", section).splitlines())


def test_the_options_of_the_program_itself_are_documented():
    for option in ("--version", "--help", "-h", "SONA_DB", "SONA_DATA"):
        assert f"`{option}`" in CLI or f"`sona {option}`" in CLI, option


SKIPPED = {"sona demo": "takes a minute; its parts are run in tests/unit/test_cli_commands.py"}


@pytest.mark.slow
def test_the_session_on_the_page_is_what_really_happens(tmp_path):
    ran = []
    for block in blocks(ROOT / "docs" / "cli.md", "console"):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = entry.partition("\n")
            if command in SKIPPED:
                continue
            if command.startswith("cat "):
                (tmp_path / command.removeprefix("cat ")).write_text(expected, encoding="utf-8")
            found = run(command, tmp_path, shell=True)
            said = found.stderr if found.returncode else found.stdout
            assert masked(said) == masked(expected), command
            ran.append(command.partition(" ")[0])
    assert ran.count("sona") >= 10


def masked(text):
    # Figures may change with the engine; words, and what comes first, may not.
    text = re.sub(r"^kernel .*$", "kernel #", text, flags=re.MULTILINE)  # that of the machine
    text = re.sub(r"\d[\d.,]*", "#", text)
    return re.sub(r"[ ─]+", " ", text).strip()


# -- settings ------------------------------------------------------------------------------------------------------


def rows_of(record):
    table = sections(SETTINGS)[record.__name__]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): row[1:] for row in cells}


def default_of(field):
    if field.default is not MISSING:
        return f"`{field.default!r}`"
    return "required" if field.default_factory is MISSING else f"`{field.default_factory.__name__}()`"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_setting_is_documented_with_its_default_and_no_other(record):
    documented = {name: row[0] for name, row in rows_of(record).items()}
    assert documented == {field.name: default_of(field) for field in fields(record)}
    assert all(len(row) == 3 and row[2] for row in rows_of(record).values())


def outside(text):
    # A value just outside each bound that is a number.
    patterns = {
        r"^(-?[\d.]+) (?:and up|to )": lambda low: low - 1.0,
        r"^above (-?[\d.]+)": lambda low: low,
        r" to (-?[\d.]+)$": lambda high: high + 1.0,
        r"^1 or 2$": lambda: 3.0,
    }
    for pattern, beyond in patterns.items():
        if found := re.search(pattern, text.partition(", or None")[0]):
            yield beyond(*map(float, found.groups()))


CHECKED = [
    (record, name, value) for record in RECORDS for name, row in rows_of(record).items() for value in outside(row[1])
]


@pytest.mark.parametrize(("record", "name", "value"), CHECKED)
def test_a_value_outside_the_documented_range_is_refused(record, name, value):
    made = record(param_count=1) if record is config.EwcConfig else record()
    is_whole = isinstance(getattr(made, name), int) or name == "hidden_dim"
    with pytest.raises(ConfigError):
        replace(made, **{name: int(value) if is_whole else value})


def test_nearly_every_setting_that_is_a_number_has_a_range_that_is_checked():
    numbers = [
        (record, field.name)
        for record in RECORDS
        for field in fields(record)
        if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
    ]
    assert {(record, name) for record, name, _ in CHECKED} >= set(numbers) - {
        (config.EwcConfig, "strength"),  # between two other settings
        (config.EwcConfig, "max_strength"),
    }


# -- code ----------------------------------------------------------------------------------------------------------


def test_every_block_of_python_is_run():
    for document in DOCUMENTS:
        for language, _ in BLOCK.findall(document.read_text(encoding="utf-8")):
            assert language == "python" or not re.match("py|>>>", language, re.IGNORECASE), (document, language)
    assert EXAMPLES


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if blocks(path, "python")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_the_python_of_a_document_runs_from_top_to_bottom(document, tmp_path):
    code = "\n".join(blocks(document, "python"))
    found = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example, tmp_path):
    found = run([sys.executable, "-W", "error", str(example)], tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()
