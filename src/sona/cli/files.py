"""Files to memories: JSON lines or paragraphs; one bad line and nothing is returned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sona.errors import InvalidValue, StoreError

STDIN = "-"
_JSONL = frozenset({".jsonl", ".ndjson"})
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")


@dataclass(frozen=True, slots=True)
class Memory:
    """One text to remember.

    Args:
        text: The text.
        id: Its id; None when it has none of its own.
        where: File and line, for people.
    """

    text: str
    id: str | None
    where: str


def read_memories(names: Sequence[str], stdin: BinaryIO, *, is_jsonl: bool = False) -> list[Memory]:
    """Return the memories of all files in order; none when one line of one file cannot be used.

    A `.jsonl` or `.ndjson` file holds one `{"text": ..., "id": ...}` a line, the id left out or a text or whole
    number; blank lines and other keys are passed over. Any other file holds one memory per paragraph.

    Args:
        names: Paths; `-` is `stdin`.
        stdin: Where `-` reads from.
        is_jsonl: Every file holds JSON lines, whatever its name.

    Raises:
        StoreError: a file cannot be read.
        InvalidValue: a file holds no memory or no UTF-8 text, a line cannot be used, or one id stands for two texts.
    """
    memories: list[Memory] = []
    for name in names:
        label = "stdin" if name == STDIN else name
        text = _decoded(stdin.read() if name == STDIN else _content(Path(name)), label)
        lines = is_jsonl or Path(name).suffix.lower() in _JSONL
        found = list(_from_lines(text, label) if lines else _from_paragraphs(text, label))
        if not found:
            raise InvalidValue(f"{label} holds no memory: it is empty")
        memories += found
    _refuse_two_texts_of_one_id(memories)
    return memories


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name the files in it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error


def _decoded(content: bytes, label: str) -> str:
    if (place := content.find(b"\0")) >= 0:
        raise InvalidValue(f"{label} line {_line(content, place)}: not text, or not UTF-8 (it holds a zero byte)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{label} line {_line(content, error.start)}: not UTF-8 text") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1


def _from_paragraphs(text: str, label: str) -> Iterator[Memory]:
    number = 1
    for paragraph, gap in _paragraphs(text):
        if paragraph.strip():
            first = number + paragraph[: len(paragraph) - len(paragraph.lstrip())].count("\n")
            yield Memory(paragraph.strip(), None, f"{label} line {first}")
        number += paragraph.count("\n") + gap.count("\n")


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    end = 0
    for gap in _BLANK_LINES.finditer(text):
        yield text[end : gap.start()], gap.group()
        end = gap.end()
    yield text[end:], ""


def _from_lines(text: str, label: str) -> Iterator[Memory]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _record(line, f"{label} line {number}")


def _record(line: str, where: str) -> Memory:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"{where}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InvalidValue(f'{where}: expected an object such as {{"text": "..."}}, got {_kind(record)}')
    text, own = record.get("text"), record.get("id")
    if not isinstance(text, str) or not text.strip():
        raise InvalidValue(f'{where}: "text" should be text that is not empty')
    if isinstance(own, int) and not isinstance(own, bool):
        own = str(own)
    if own is not None and (not isinstance(own, str) or not own.strip()):
        raise InvalidValue(f'{where}: "id" should be text or a whole number')
    return Memory(text, own, where)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _refuse_two_texts_of_one_id(memories: Sequence[Memory]) -> None:
    first: dict[str, Memory] = {}
    for memory in memories:
        if memory.id is None:
            continue
        other = first.setdefault(memory.id, memory)
        if other.text != memory.text:
            raise InvalidValue(f"{memory.where}: the id {memory.id!r} stands for another text at {other.where}")
