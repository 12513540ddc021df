"""What is left when a process is killed? It serves, learns and forgets from several threads, and dies at any moment.

python bench/crash.py [--kills 200] [--json FILE] [--quick] [--level LEVEL] [--seed SEED] [--folder FOLDER]

After every kill the file is opened again: what was acknowledged is there, as the level of durability promises; the
state is the one that follows from the log, bit for bit, answers and counters included; whoever was being forgotten is
wholly there or gone without a trace. Controls show that each of these checks can fail.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: a process that forks has one thread

import argparse
import importlib
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from crash.findings import PROMISE_S, Found, look
from crash.processes import Life, Moment, found_by_another, lived
from crash.workload import REQUESTS, VECTORS, D, Plan
from sona import QueryTrajectory, SonaEngine, TrajectoryStep
from sona.engine.events import Submitted
from sona.engine.learner import Learner

LIFE_S = {"strict": 0.5, "batched": 0.5, "relaxed": 2.5}  # a life at most; some are longer than what may be lost
SHARES = {"strict": 0.5, "batched": 0.3, "relaxed": 0.2}
CONTROL_KILLS = 8
WARM = ("safetensors.numpy", "sklearn.feature_extraction.text", "sklearn.utils.extmath")  # imported before any fork


@dataclass(slots=True)
class Tally:
    """What was found after kills at one level.

    Args:
        kills: Processes killed.
        looks: What was found, look by look; two kills may come before one look.
    """

    kills: int = 0
    looks: list[Found] = field(default_factory=list)

    def total(self, name: str) -> int:
        """Return the sum of one count over all looks."""
        return sum(int(getattr(found, name)) for found in self.looks)

    def faults(self) -> list[str]:
        """Return in words what is wrong beside counts."""
        return [words for found in self.looks for words in (*found.untrue, *found.errors)]

    def as_json(self, level: str) -> dict[str, float | int]:
        """Return the figures of a level."""
        return {
            "kills": self.kills,
            "promise_ms": 1e3 * PROMISE_S[level],
            "acknowledged": self.total("acknowledged"),
            "lost": self.total("lost"),
            "lost_beyond_promise": self.total("lost_beyond_promise"),
            "looks_with_loss": sum(found.lost > 0 for found in self.looks),
            "longest_loss_ms": round(max((found.longest_loss_ms for found in self.looks), default=0.0), 1),
            "events": max((found.events for found in self.looks), default=0),
            "longest_open_ms": round(max((found.open_ms for found in self.looks), default=0.0), 1),
        }


def moments(level: str, is_forgetting: bool, chance: random.Random) -> Moment:
    """Return when to kill: while it opens, while it works, or around what forgetting writes."""
    if is_forgetting:
        if chance.random() < 0.7:
            return Moment("erasing", chance.uniform(0.0, 0.08))
        return Moment("forgetting", chance.uniform(0.0, 1.5))
    if chance.random() < 0.15:
        return Moment("", chance.uniform(0.0, 0.15))
    return Moment("opened", chance.uniform(0.0, LIFE_S[level]))


def files(level: str, kills: int, chance: random.Random, folder: Path) -> Iterator[tuple[list[Life], Found]]:
    """Yield what was found after each look at files that several processes have used, each killed."""
    while kills > 0:
        place = Path(tempfile.mkdtemp(dir=folder))
        lives = min(chance.choice((1, 2, 2, 3)), kills)
        yield from _one_file(level, lives, chance, place)
        kills -= lives
        shutil.rmtree(place)


def _one_file(level: str, lives: int, chance: random.Random, place: Path) -> Iterator[tuple[list[Life], Found]]:
    is_forgotten_at_the_end, has_own_embedder = chance.random() < 0.4, chance.random() < 0.5
    kept: list[list[str]] = []
    unseen: list[Life] = []
    for life in range(1, lives + 1):
        is_last = life == lives
        plan = Plan(
            place / "engine", level, chance.randrange(10**6), is_last and is_forgotten_at_the_end, has_own_embedder
        )
        unseen.append(lived(plan, moments(level, plan.is_forgetting, chance)))
        if not is_last and chance.random() < 0.3:
            continue  # the next process finds the file as this one has left it
        found = Found.of(found_by_another(lambda plan=plan, unseen=unseen, kept=kept: look(plan, unseen, kept)))
        kept = found.kept
        yield unseen, found
        unseen = []


def killed(level: str, kills: int, chance: random.Random, folder: Path) -> Tally:
    """Return what was found after `kills` kills at one level."""
    tally = Tally()
    for lives, found in files(level, kills, chance, folder):
        tally.kills += len(lives)
        tally.looks.append(found)
        if found.faults:
            print(f"  {level}, kill {tally.kills}: {replace(found, kept=[])}", file=sys.stderr, flush=True)
    return tally


# -- controls ----------------------------------------------------------------------------------------------------------


def acknowledged_before_written(kills: int, chance: random.Random, folder: Path) -> dict[str, int]:
    """Return what the check finds of a store that acknowledges before it writes, held to the promise of `strict`."""
    lost = 0
    for _ in range(kills):
        place = Path(tempfile.mkdtemp(dir=folder))
        plan = Plan(place / "engine", "relaxed", chance.randrange(10**6))
        life = lived(plan, Moment("opened", chance.uniform(0.2, 0.6)))
        held_to = replace(plan, durability="strict")
        lost += Found.of(
            found_by_another(lambda held_to=held_to, life=life: look(held_to, [life], []))
        ).lost_beyond_promise
    return {"kills": kills, "lost_acknowledged": lost}


def harmed(engine: SonaEngine) -> None:
    """Let a lesson count that is not in the log, and let versions be what they were not."""
    machine, version = engine._machine, engine._machine.versions
    untrained = Learner(D, engine.config).checkpoint()
    version._kept.update(dict.fromkeys(version._kept, untrained))
    lesson = QueryTrajectory(10**9, REQUESTS[0], (TrajectoryStep(VECTORS[0], reward=1.0),), 1.0)
    machine.submit(Submitted(0.0, lesson))
    engine.flush()


def harm_is_noticed(chance: random.Random, folder: Path) -> dict[str, int]:
    """Return what the check finds of an engine that was harmed after it was opened."""
    plan = Plan(Path(tempfile.mkdtemp(dir=folder)) / "engine", "strict", chance.randrange(10**6))
    life = lived(plan, Moment("version", 0.1))
    found = Found.of(found_by_another(lambda: look(plan, [life], [], harmed)))
    return {
        "torn_states": found.torn,
        "replays_unequal": found.unequal,
        "answers_unequal": found.other_answers,
        "untrue_counters": len(found.untrue),
    }


# -- all of it ---------------------------------------------------------------------------------------------------------


def split(kills: int, level: str | None) -> dict[str, int]:
    """Return how many kills each level gets."""
    if level is not None:
        return {level: kills}
    shared = {name: round(share * kills) for name, share in SHARES.items()}
    return {**shared, "strict": kills - shared["batched"] - shared["relaxed"]}


def run(kills: int, level: str | None, seed: int, folder: Path) -> dict[str, object]:
    """Return all figures."""
    began, chance = time.perf_counter(), random.Random(seed)
    tallies = {name: killed(name, count, chance, folder) for name, count in split(kills, level).items()}
    looks = [found for tally in tallies.values() for found in tally.looks]
    forgotten = [found for found in looks if found.was_forgotten is not None]
    gone = sum(found.was_forgotten is True for found in forgotten)
    figures: dict[str, object] = {
        "kills": sum(tally.kills for tally in tallies.values()),
        "lost_acknowledged": sum(found.lost_beyond_promise for found in looks),
        "torn_states": sum(found.torn for found in looks),
        "replays_unequal": sum(found.unequal for found in looks),
        "answers_unequal": sum(found.other_answers for found in looks),
        "untrue_counters": sum(len(found.untrue) for found in looks),
        "errors": [words for tally in tallies.values() for words in tally.faults()],
        "levels": {name: tally.as_json(name) for name, tally in tallies.items()},
        "forget": {
            "kills": len(forgotten),
            "gone": gone,
            "there": len(forgotten) - gone,
            "came_back": sum(found.came_back for found in forgotten),
            "files_with_traces": sum(found.traces for found in forgotten),
            "marked_before": sum(found.was_marked for found in forgotten),
        },
        "control": {
            "acknowledged_before_written": acknowledged_before_written(min(CONTROL_KILLS, kills), chance, folder),
            "harmed": harm_is_noticed(chance, folder),
        },
    }
    return {**figures, "seed": seed, "seconds": round(time.perf_counter() - began, 1)}


def show(figures: dict) -> None:
    print(
        f"{'level':10}{'kills':>7}{'acknowledged':>14}{'lost':>7}{'oldest lost':>14}{'promised':>12}{'beyond it':>11}"
    )
    for name, row in figures["levels"].items():
        print(
            f"{name:10}{row['kills']:7}{row['acknowledged']:14}{row['lost']:7}{row['longest_loss_ms']:11.0f} ms"
            f"{row['promise_ms']:9.0f} ms{row['lost_beyond_promise']:11}"
        )
    early, harm = figures["control"]["acknowledged_before_written"], figures["control"]["harmed"]
    print(
        f"{'control':10}{early['kills']:7}{'acknowledged before it is written:':>40} {early['lost_acknowledged']} lost"
    )
    for name in ("torn_states", "replays_unequal", "answers_unequal", "untrue_counters"):
        print(f"{name.replace('_', ' '):24}{figures[name]:5}   of an engine that was harmed: {harm[name]}")
    print("forgetting:", ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in figures["forget"].items()))
    for words in figures["errors"]:
        print(f"  {words}")
    print(f"{figures['seconds']:.0f} s")


def is_proved(figures: dict) -> bool:
    """Return True when nothing is wrong and every control shows that it would be seen."""
    faults = ("lost_acknowledged", "torn_states", "replays_unequal", "answers_unequal", "untrue_counters")
    forget, control = figures["forget"], figures["control"]
    is_sound = not (any(figures[name] for name in faults) or figures["errors"])
    is_seen = control["acknowledged_before_written"]["lost_acknowledged"] and all(control["harmed"].values())
    return bool(is_sound and is_seen and not forget["came_back"] and not forget["files_with_traces"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="twelve kills: does it all run?")
    parser.add_argument("--level", choices=tuple(PROMISE_S), help="one level of durability alone")
    parser.add_argument("--seed", type=int, default=0, help="what is done and when it ends follows from it")
    parser.add_argument("--folder", type=Path, help="where the files are written")
    options = parser.parse_args()
    logging.getLogger("sona").setLevel(logging.ERROR)
    for module in WARM:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        figures = run(12 if options.quick else options.kills, options.level, options.seed, Path(name))
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(not is_proved(figures))


if __name__ == "__main__":
    main()
