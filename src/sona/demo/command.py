"""`sona demo` without a terminal: run the main job, write the picture and the page, return the figures."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from sona.checks import whole
from sona.config import GuardConfig, SonaConfig
from sona.demo.curve import plot
from sona.demo.experiment import LearnedRanker, run
from sona.demo.outcome import Outcome, PartSummary, Plan, Report, conclusion, summarise
from sona.demo.page import write_page
from sona.demo.tasks import TASKS, Task
from sona.engine import SonaEngine
from sona.errors import InvalidValue, MissingExtra, StoreError
from sona.guard.report import Report as GuardReport
from sona.state import Plain

SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "stdlib": "the Python standard library",
        "stdlib_full_text": "the Python standard library, full text",
        "banking77": "BANKING77",
        "cranfield": "Cranfield",
    }
)
"""What the tasks are called in a title."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run.

    Args:
        task: A name of `TASKS`.
        seeds: Random splits; seed 0 and up.
        passes: How often each request is asked; the task's own number when None.
        output: Folder of the picture and the page; made when there is none.

    Raises:
        InvalidValue: an unknown task, or a number below 1.
    """

    task: str = "stdlib"
    seeds: int = 1
    passes: int | None = None
    output: Path = Path("demo-output")

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.task not in TASKS:
            raise InvalidValue(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")
        whole(self.seeds, "seeds", 1)
        if self.passes is not None:
            whole(self.passes, "passes", 1)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the guard of one engine found, without knowing what is relevant.

    Args:
        report: Its report at the end of the stream.
        database: Where the engine lives; `sona report` and its like may be asked there.
    """

    report: GuardReport
    database: Path

    def as_json(self) -> dict[str, Plain]:
        """Return the verdict as plain values."""
        lift = self.report.lift
        return {
            "verdict": self.report.verdict.value,
            "lift": lift.value,
            "ci": [lift.low, lift.high],
            "compared": lift.trials,
            "database": str(self.database),
        }


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a run found, and where it is shown.

    Args:
        report: Everything that was measured.
        parts: Frozen against learned, by part.
        conclusion: The same in plain words.
        proofs: What the guard of each engine found from clicks alone.
        picture: The learning curve, a PNG file.
        page: The page, an HTML file.
        elapsed_s: Seconds from start to page.
    """

    report: Report
    parts: tuple[PartSummary, ...]
    conclusion: str
    proofs: Sequence[Proof]
    picture: Path
    page: Path
    elapsed_s: float

    def as_json(self) -> dict[str, Plain]:
        """Return the figures as plain values."""
        first = self.report.outcomes[0]
        return {
            "task": first.task,
            "description": first.description,
            "seeds": [outcome.seed for outcome in self.report.outcomes],
            "requests": sum(outcome.requests for outcome in self.report.outcomes),
            "clicks": sum(outcome.clicked for outcome in self.report.outcomes),
            "parts": {part.name: part.as_json() for part in self.parts},
            "conclusion": self.conclusion,
            "proofs": [proof.as_json() for proof in self.proofs],
            "picture": str(self.picture),
            "page": str(self.page),
            "page_url": self.page.as_uri(),
            "elapsed_s": round(self.elapsed_s, 2),
        }


def demonstrate(
    choice: Choice, *, on_stage: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> Demonstration:
    """Run the main job and show the result: a task, a new engine for each seed, clicks, Loops A and B, page.

    Each engine lives in a database of its own in the folder, made anew, with every default: its guard answers some
    requests frozen, and judges from the clicks alone whether learning helps. What was learned is scored beside that,
    by previews that serve nothing and so teach nothing.

    Args:
        choice: What to run.
        on_stage: Called with what begins, in words.
        on_progress: Called with (requests done, requests of this split) after each request.

    Raises:
        MissingExtra: matplotlib or scikit-learn is not installed; said before the work begins.
        StoreError: data are missing, or the folder cannot be written; said before the work begins.
    """
    began = time.perf_counter()
    for package, purpose in (("matplotlib", "the learning curve"), ("threadpoolctl", "the demo")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "demo", purpose)
    from threadpoolctl import threadpool_limits

    on_stage(f"Reading {SUBJECTS[choice.task]}")
    task = _task(choice, 0)
    output = _folder(choice.output)
    outcomes: list[Outcome] = []
    proofs: list[Proof] = []
    for seed in range(choice.seeds):
        task = _task(choice, seed) if seed else task
        on_stage(f"Learning from clicks, split {seed + 1} of {choice.seeds}")
        with threadpool_limits(1):  # beside other work, threads on matrices this small wait more than they work
            outcome, proof = _streamed(task, _database(output, choice.task, seed), on_progress)
        outcomes.append(outcome)
        proofs.append(proof)
    on_stage("Drawing the learning curve and writing the page")
    report = Report(f"SONA learns from clicks: {SUBJECTS[choice.task]}", outcomes, settings=_settings(task))
    picture, page = output / f"{choice.task}.png", output / f"{choice.task}.html"
    plot(report, picture)
    write_page(report, page)
    parts = summarise(outcomes)
    return Demonstration(report, parts, conclusion(parts), proofs, picture, page, time.perf_counter() - began)


def _database(folder: Path, task: str, seed: int) -> Path:
    path = folder / (f"{task}-{seed}.db" if seed else f"{task}.db")
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    return path


def _streamed(task: Task, database: Path, on_progress: Callable[[int, int], None]) -> tuple[Outcome, Proof]:
    config = SonaConfig(guard=GuardConfig(key="demo"))  # a secret that everybody knows, so that two runs are alike
    with SonaEngine.open(database, config, durability="relaxed") as engine:
        people = np.random.default_rng(task.seed)
        outcome = run(task, engine, rng=people, measured=LearnedRanker, on_progress=on_progress)
        return outcome, Proof(engine.report(), database)


def _task(choice: Choice, seed: int) -> Task:
    task = TASKS[choice.task](seed)
    return task if choice.passes is None else replace(task, passes=choice.passes)


def _folder(path: Path) -> Path:
    # A run of minutes must not end with a page that cannot be written.
    folder = path.absolute()
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(f"cannot write to the folder {path}: {error.strerror or error}") from error
    return folder


def _settings(task: Task) -> dict[str, str]:
    config, plan = SonaConfig(), Plan()
    return {
        "Passes over the stream": str(task.passes),
        "Documents": f"{len(task.ids):,}, vectors of {task.vectors.shape[1]} numbers",
        "Engine": f"all defaults: micro-LoRA of rank {config.micro_lora_rank}, base-LoRA of rank "
        f"{config.base_lora_rank}, votes of the {config.votes.neighbours} nearest past requests",
        "Points of the curve": f"{plan.checkpoints}, each on samples of {plan.sample} requests per part",
    }
