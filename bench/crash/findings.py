"""What the file of a killed process holds, against what the process was told and against the log itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields

from crash.processes import Life
from crash.workload import IDS, REQUESTS, SOMEBODY, VECTORS, Plan, opened
from sona import SonaEngine, SonaError
from sona.engine.candidates import Candidates
from sona.engine.codec import unpack
from sona.engine.learner import Learner
from sona.engine.machine import Machine
from sona.state import digest
from sona.stores import Event, Store

PROMISE_S = {"strict": 0.0, "batched": 0.5, "relaxed": 1.5}
"""What may be lost at most, in seconds before the kill: docs/stores.md, and half a second for a busy machine."""
_COUNTED = ("judged", "remembered", "submitted", "version", "rolledback")  # what is acknowledged


@dataclass(slots=True)
class Found:
    """What one look at a file has found.

    Args:
        acknowledged: Things that the process was told are taken in.
        lost: How many of them are gone.
        lost_beyond_promise: How many of those were older than the promise, or had been flushed, or found before.
        longest_loss_ms: Milliseconds between the oldest acknowledgement that was lost and the kill.
        torn: Versions that are not what their record says, files that cannot be opened, states without their version.
        unequal: 1 when the state is not the one that follows from the log.
        other_answers: Probes answered otherwise than by the log's replay.
        untrue: Counters that do not say what the log says.
        errors: What went wrong in the process before it was killed.
        events: Events in the log.
        open_ms: How long opening took.
        was_forgotten: Whether somebody is gone; None when nobody was to be.
        came_back: 1 when somebody is there although forgetting them was acknowledged.
        traces: Files that hold a byte of somebody who is gone.
        was_marked: Whether the files held them before.
        kept: What was acknowledged and is there.
    """

    acknowledged: int = 0
    lost: int = 0
    lost_beyond_promise: int = 0
    longest_loss_ms: float = 0.0
    torn: int = 0
    unequal: int = 0
    other_answers: int = 0
    untrue: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    events: int = 0
    open_ms: float = 0.0
    was_forgotten: bool | None = None
    came_back: int = 0
    traces: int = 0
    was_marked: bool = False
    kept: list[list[str]] = field(default_factory=list)

    @classmethod
    def of(cls, document: dict[str, object]) -> Found:
        """Return what another process has found."""
        found = cls()
        for entry in fields(cls):
            setattr(found, entry.name, document[entry.name])
        return found

    @property
    def faults(self) -> int:
        """How much is not as it must be."""
        return (
            (self.lost_beyond_promise + self.torn + self.unequal + self.other_answers + self.came_back + self.traces)
            + len(self.untrue)
            + len(self.errors)
        )


class Watched(SonaEngine):
    """An engine that shows the machine its replay has built."""

    rebuilt: Machine

    def _blank(self) -> Machine:
        self.rebuilt = super()._blank()
        return self.rebuilt


def look(
    plan: Plan, lives: Sequence[Life], kept: Iterable[Sequence[str]], harm: Callable[[SonaEngine], None] | None = None
) -> dict[str, object]:
    """Return what the file holds after some lives, the last of which was that of `plan`.

    Args:
        plan: Where the file is, and at what level it was open.
        lives: What processes had written down since the last look.
        kept: What was acknowledged and there at the last look.
        harm: Done to the engine before it is looked at, to show that it is noticed.
    """
    found = Found(errors=[f"{told.key}: {told.value}" for life in lives for told in life.told if told.kind == "error"])
    found.was_marked = _traces(plan) > 0
    if not plan.path.exists():
        _losses(plan, lives, kept, set(), found)
        return asdict(found)
    began = time.perf_counter()
    try:
        engine = opened(plan, Watched)
    except SonaError as error:
        found.torn, found.errors = 1, [*found.errors, f"opening: {error}"]
        return asdict(found)
    found.open_ms = 1e3 * (time.perf_counter() - began)
    with engine:
        if harm is not None:
            harm(engine)
        _examine(engine, plan, lives, kept, found)
    found.traces = _traces(plan) if found.was_forgotten else 0
    return asdict(found)


def _examine(engine: Watched, plan: Plan, lives: Sequence[Life], kept: Iterable[Sequence[str]], found: Found) -> None:
    store = engine._journal.store
    assert store is not None
    log = Log.read(store)
    found.events = log.count
    _forgetting(plan, lives, log, found)
    there = log.acknowledged | {("version", str(record.id), record.digest) for record in engine.versions()}
    _losses(plan, lives, kept, there, found)
    found.torn += _torn(engine._machine)
    found.unequal = int(not engine.replay().is_equal)
    found.other_answers = _other_answers(engine._learner, engine.rebuilt.learner)
    found.untrue += _untrue(engine, log)


# -- the log, without the engine ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Log:
    """A log as it stands in the file.

    Args:
        kinds: How many events there are of each kind.
        acknowledged: What somebody was told of, as it was written down.
        judged: Requests that earned feedback.
        names: Of memories.
        somebody: Events of the one who may be forgotten.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    acknowledged: set[tuple[str, str, str]] = field(default_factory=set)
    judged: set[int | None] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    somebody: int = 0

    @property
    def count(self) -> int:
        """Events in all."""
        return self.kinds.total()

    @classmethod
    def read(cls, store: Store) -> Log:
        """Return the log of a store."""
        log = cls()
        for event in store.events():
            log._add(event)
        return log

    def _add(self, event: Event) -> None:
        self.kinds[event.kind] += 1
        self.somebody += event.subject == SOMEBODY
        document = unpack(event.body)
        if event.kind == "judged":
            self.judged.add(event.trajectory_id)
            outcome = [f"{item}={reward}" for item, reward in _pairs(document["rewards"])]
            who = SOMEBODY if event.subject == SOMEBODY else ""
            [value] = outcome or [f"quality={document['quality']}"]
            self.acknowledged.add(("judged", str(event.trajectory_id), f"{value} {who}"))
        elif event.kind == "remembered":
            self.names.add(str(document["id"]))
            self.acknowledged.add(("remembered", str(document["id"]), "-"))
        elif event.kind == "submitted":
            self.acknowledged.add(("submitted", str(event.trajectory_id), "-"))
        elif event.kind == "rolledback":
            self.acknowledged.add(("rolledback", str(document["reason"]), "-"))


def _pairs(value: object) -> list[tuple[str, float]]:
    return [(pair[0], pair[1]) for pair in value] if isinstance(value, list) else []


# -- what is looked for ------------------------------------------------------------------------------------------------


def _losses(
    plan: Plan, lives: Sequence[Life], kept: Iterable[Sequence[str]], there: set[tuple[str, str, str]], found: Found
) -> None:
    for entry in kept:
        if _still_counts(entry, found):
            found.lost_beyond_promise += tuple(entry) not in there
            found.kept.append(list(entry))
    for life in lives:
        flushed = max((float(told.value) for told in life.told if told.kind == "flushed"), default=0.0)
        for told in life.told:
            entry = (told.kind, told.key, told.value)
            if told.kind not in _COUNTED or not _still_counts(entry, found):
                continue
            found.acknowledged += 1
            if entry in there:
                found.kept.append(list(entry))
                continue
            age_s, promise_s = life.killed_at - told.at, PROMISE_S[plan.durability]
            found.lost += 1
            found.longest_loss_ms = max(found.longest_loss_ms, 1e3 * age_s)
            found.lost_beyond_promise += promise_s == 0.0 or age_s > promise_s or told.at < flushed


def _still_counts(entry: Sequence[str], found: Found) -> bool:
    # Who was forgotten takes along what they did, and every version is made anew without them.
    return not found.was_forgotten or not (entry[0] == "version" or any(SOMEBODY in word for word in entry))


def _forgetting(plan: Plan, lives: Sequence[Life], log: Log, found: Found) -> None:
    if plan.is_forgetting:
        kinds = {told.kind for told in lives[-1].told}
        if "forgetting" in kinds:
            found.was_forgotten = log.somebody == 0
            found.came_back = int("forgotten" in kinds and not found.was_forgotten)


def _torn(machine: Machine) -> int:
    versions = machine.versions
    torn = sum(
        digest(checkpoint.state()) != versions.find(version).digest for version, checkpoint in versions._kept.items()
    )
    return torn + (versions.in_force not in versions.kept)


def _other_answers(one: Learner | None, other: Learner | None) -> int:
    assert one is not None
    assert other is not None
    candidates = Candidates.renewed(None, IDS, VECTORS, VECTORS.shape[1])
    different = 0
    for request in REQUESTS:
        answers = [
            (learner.adapt(request).tobytes(), choice.learned.rows.tobytes(), choice.learned.scores.tobytes())
            for learner in (one, other)
            for choice in (learner.score(request, candidates, len(IDS)),)
        ]
        different += answers[0] != answers[1]
    return different


def _untrue(engine: SonaEngine, log: Log) -> list[str]:
    metrics, kinds = engine.metrics(), log.kinds
    store, instant = metrics.store, metrics.instant
    assert store is not None
    assert instant is not None
    pairs = {
        "requests": (metrics.requests, kinds["answered"] + kinds["submitted"]),
        "feedbacks": (metrics.feedbacks, len(log.judged)),
        "judged": (metrics.feedbacks + metrics.amended + metrics.repeated + metrics.unknown, kinds["judged"]),
        "memories": (metrics.memories, len(log.names)),
        "given up": (metrics.expired, kinds["begun"] - kinds["submitted"]),
        "cycles": (len(engine.versions()) + metrics.rejected_candidates, kinds["cycleended"]),
        "learned": (metrics.learned + metrics.waiting, instant.recorded),
        "store": (store.refused + store.failures, 0),
    }
    return [f"{name}: {said} instead of {is_}" for name, (said, is_) in pairs.items() if said != is_]


def _traces(plan: Plan) -> int:
    files = [entry for entry in plan.path.parent.iterdir() if entry.is_file()]
    return sum(SOMEBODY.encode() in entry.read_bytes() for entry in files)
