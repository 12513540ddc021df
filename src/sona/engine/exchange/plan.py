"""What an import will do, decided before anything changes: what is new, what it is called here, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from sona.checks import Floats
from sona.engine.exchange.folder import Contents
from sona.engine.exchange.records import MemoryRecord, RequestRecord, foreign_id
from sona.engine.memories import Memories
from sona.engine.words import Words
from sona.errors import DimensionMismatch, InvalidValue
from sona.types import QueryTrajectory, TrajectoryStep

_MARK = 12  # hexadecimal digits of a text's digest


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What an import will do.

    Args:
        memories: Memories to remember, under their ids here, without the vectors that mean nothing here.
        requests: Requests to submit, under their ids here; `reembed` where their vectors are to be made anew.
        renamed: Memories that have another id here.
        known: Requests that were learned from here before.
        unfinished: Answers that had no feedback yet.
        left_out: Requests whose vectors can neither be used nor made anew.
    """

    memories: tuple[MemoryRecord, ...]
    requests: tuple[RequestRecord, ...]
    renamed: int
    known: int
    unfinished: int
    left_out: int


def plan(
    contents: Contents,
    memories: Memories,
    words: Words,
    *,
    width: int | None,
    is_known: Callable[[int], bool],
    reembed: bool,
) -> Plan:
    """Return what an import will do.

    Args:
        contents: What comes.
        memories: What is here.
        words: What embeds words here.
        width: Width of vectors here; None while there are none.
        is_known: Whether a request with this id was learned from here before.
        reembed: Make all vectors anew.

    Raises:
        DimensionMismatch: what comes is of another width.
        InvalidValue: two memories would have one id here.
    """
    names = names_here(contents.memories, memories)
    new = tuple(
        replace(memory, id=names[memory.id], vector=None if reembed or memory.reembed else memory.vector)
        for memory in contents.memories
        if names[memory.id] not in memories
    )
    if len({memory.id for memory in new}) < len(new):
        raise InvalidValue("memories: two of them would have one id here; rename one of them where they come from")
    finished = [record for record in contents.requests if record.is_finished]
    translated = [_translated(record, names, contents.manifest.origin, reembed=reembed) for record in finished]
    fresh = [record for record in translated if not is_known(record.trajectory.id)]
    here = {*memories.row_of, *names.values()}
    chosen = tuple(record for record in fresh if not record.reembed or _is_of_words(record, here))
    _require_width(new, chosen, words, width)
    return Plan(
        memories=new,
        requests=chosen,
        renamed=sum(name != own and name not in memories for own, name in names.items()),
        known=len(translated) - len(fresh),
        unfinished=len(contents.requests) - len(finished),
        left_out=len(fresh) - len(chosen),
    )


def names_here(incoming: Sequence[MemoryRecord], memories: Memories) -> dict[str, str]:
    """Return the id here of each memory that comes: nothing here is replaced, and the same text is the same memory.

    Args:
        incoming: Memories of another engine.
        memories: Those here.
    """
    own = dict(zip(memories.ids, memories.texts, strict=True))
    by_text: dict[str, str] = {}
    for name, text in own.items():
        by_text.setdefault(text, name)
    return {memory.id: _name_here(memory, own, by_text) for memory in incoming}


def _name_here(memory: MemoryRecord, own: Mapping[str, str], by_text: Mapping[str, str]) -> str:
    if own.get(memory.id) == memory.text:
        return memory.id
    if memory.text in by_text:
        return by_text[memory.text]
    if memory.id not in own:
        return memory.id
    return f"{memory.id}~{sha256(memory.text.encode('utf-8', 'surrogatepass')).hexdigest()[:_MARK]}"


def _translated(record: RequestRecord, names: Mapping[str, str], origin: str, *, reembed: bool) -> RequestRecord:
    trajectory = record.trajectory
    steps = tuple(_renamed(step, names) for step in trajectory.steps)
    context = tuple(names.get(item, item) for item in trajectory.context_ids)
    here = replace(trajectory, id=foreign_id(origin, trajectory), steps=steps, context_ids=context)
    return replace(record, trajectory=here, reembed=reembed or record.reembed)


def _renamed(step: TrajectoryStep, names: Mapping[str, str]) -> TrajectoryStep:
    name = None if step.ref is None else names.get(step.ref, step.ref)
    return step if name == step.ref else replace(step, ref=name)


def _is_of_words(record: RequestRecord, here: set[str]) -> bool:
    return record.text is not None and all(step.ref in here for step in record.trajectory.steps)


def _require_width(
    memories: Sequence[MemoryRecord], requests: Sequence[RequestRecord], words: Words, width: int | None
) -> None:
    found = [
        (len(memory.vector), f"vector of memory {memory.id!r}") for memory in memories if memory.vector is not None
    ]
    taken = [record.trajectory for record in requests if not record.reembed]
    found += [(trajectory.hidden_dim, "query_embedding of a trajectory") for trajectory in taken]
    texts = [memory.text for memory in memories if memory.vector is None]
    texts += [record.text for record in requests if record.reembed and record.text is not None]
    if texts:
        made = words.embedder.dim or words.embedder.embed(texts[:1]).shape[1]
        found.append((made, "vectors of this engine's embedder"))
    expected = found[0][0] if width is None and found else width
    for actual, what in found:
        if actual != expected:
            raise DimensionMismatch(expected or 0, actual, what)


def lessons(requests: Sequence[RequestRecord], memories: Memories, words: Words) -> Iterator[QueryTrajectory]:
    """Yield the trajectories to submit; where vectors are to be made anew, of words and of the memories shown.

    Args:
        requests: From a plan.
        memories: Those here, with the new ones, all of them indexed.
        words: What embeds words here.
    """
    texts = list(dict.fromkeys(record.text or "" for record in requests if record.reembed))
    vectors = dict(zip(texts, _embedded(texts, words), strict=True))
    for record in requests:
        trajectory = record.trajectory
        if record.reembed:
            steps = tuple(
                replace(step, activations=memories.vectors[memories.row(step.ref or "")]) for step in trajectory.steps
            )
            trajectory = replace(trajectory, query_embedding=vectors[record.text or ""], steps=steps)
        yield trajectory


def _embedded(texts: Sequence[str], words: Words) -> Sequence[Floats]:
    if not texts:
        return ()
    if words.is_built_in:
        return [words.embed(text) for text in texts]
    return list(np.asarray(words.embedder.embed(list(texts)), np.float32))
