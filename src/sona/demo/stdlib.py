"""A corpus every machine has: the documentation of the running interpreter's standard library.

A memory is an object's name, signature and documentation without its opening sentence; a request is that
sentence as a person would type it. So there is a real gap between how people ask and how it is written.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from sona.demo.evaluation import NEAR_DUPLICATE, WordOverlap
from sona.text.embed import words

# Importing these opens windows or browsers, prints, changes the terminal, or runs test suites.
_SKIPPED = frozenset(
    re.findall(
        r"\w+",
        "antigravity this idlelib tkinter turtle turtledemo test lib2to3 distutils readline rlcompleter "
        "pydoc_data ensurepip venv msilib winreg winsound nt ntpath nturl2path encodings asynchat asyncore smtpd imp",
    )
)
# Test runners and notebooks put their own functions here.
_REPLACED_AT_RUN_TIME = frozenset(
    {"sys.breakpointhook", "sys.displayhook", "sys.excepthook", "sys.unraisablehook", "pdb.set_trace"}
)
_SKIPPED_PARTS = frozenset({"__main__", "test", "tests", "idle_test"})
_SIGNATURE_LINE = re.compile(r"^[\w.]+\s*\(.*\)\s*(->.*|--.*)?$")
_SIGNATURE_HEAD = re.compile(r"^[\w.]+\([^()]*\)\s*(->\s*[\w\[\], .]+?)?\s*(--|:|\n)\s*")
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)[.!?][\"')\]]*(?=\s|$)")
_LONGEST_OPENING = 40  # words; a longer first sentence is cut at its first line
_FEWEST_WORDS = 4  # in the opening without the name, and in the memory without its opening


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented object.

    Args:
        id: Qualified name, such as `json.dumps`.
        text: The memory: name, signature, documentation (without its opening sentence unless asked).
        opening: The opening sentence of the documentation.
        target: Id of the memory a request made from `opening` should find.
    """

    id: str
    text: str
    opening: str
    target: str


@dataclass(frozen=True, slots=True)
class StdlibCorpus:
    """The documented objects of the running interpreter, sorted by id."""

    entries: tuple[Entry, ...]
    full_text: bool

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.entries)


def as_typed(opening: str, name: str, rng: np.random.Generator, *, drop: float = 0.3) -> str:
    """Return `opening` as a person would type it: plain lower-case words, without the object's own name, some left out.

    Args:
        opening: A sentence.
        name: The object's qualified name; neither its last component nor that one's parts occur in the result.
        rng: Decides which words are left out; another draw is a paraphrase.
        drop: Chance that a word is left out; at least three stay where there are three.

    Returns:
        Words separated by one space.

    >>> as_typed("Split the line at each `sep`, then return a List.", "shlex.split", np.random.default_rng(0), drop=0.0)
    'the line at each sep then return a list'
    """
    own = set(words(name.rpartition(".")[2]))
    usable = [word for word in words(opening) if word not in own]
    draws = rng.random(len(usable))
    kept = draws >= min(drop, float(np.sort(draws)[-3]) if len(usable) >= 3 else 0.0)
    return " ".join(word for word, keep in zip(usable, kept, strict=True) if keep)


def load_corpus(*, full_text: bool = False) -> StdlibCorpus:
    """Return the standard library's documentation as memories and opening sentences.

    Deterministic for one interpreter and sorted by id. Each docstring occurs once, and no two opening sentences
    share four of five words, so that a random split puts no near-duplicate on both sides.

    Args:
        full_text: Keep the opening sentence in the memory: the easy case.
    """
    entries: list[Entry] = []
    docs: set[str] = set()
    openings = WordOverlap()
    for name, found, doc in sorted(_documented(), key=lambda item: (item[0].count("."), item[0])):
        body = _without_signature(inspect.cleandoc(doc))
        opening, rest = split_opening(body)
        key = _key(opening, name)
        head = f"{name}{_signature(found)}"
        is_usable = _is_sentence(opening, key) and len(words(f"{head} {rest}")) >= _FEWEST_WORDS
        if not is_usable or body in docs or openings.highest(key) >= NEAR_DUPLICATE:
            continue
        docs.add(body)
        openings.add(key)
        text = f"{head}\n{body if full_text else rest}"
        entries.append(Entry(name, text, opening, name))
    return StdlibCorpus(tuple(sorted(entries, key=lambda entry: entry.id)), full_text)


def split_opening(doc: str) -> tuple[str, str]:
    r"""Return the opening sentence of `doc` on one line, and everything after it.

    >>> split_opening("Parse a date, e.g. 1.5.2020, or\nfail.  Raises nothing.\n\nMore.")
    ('Parse a date, e.g. 1.5.2020, or fail.', 'Raises nothing.\n\nMore.')
    """
    doc = doc.strip()
    paragraph = re.split(r"\n\s*\n", doc, maxsplit=1)[0]
    end = _SENTENCE_END.search(paragraph)
    cut = end.end() if end else len(paragraph)
    if len(paragraph[:cut].split()) > _LONGEST_OPENING:
        cut = len(paragraph.split("\n", 1)[0])
    return " ".join(doc[:cut].split()), doc[cut:].strip()


def _key(opening: str, name: str) -> tuple[str, ...]:
    own = set(words(name.rpartition(".")[2]))
    return tuple(word for word in words(opening) if word not in own)


def _is_sentence(opening: str, key: tuple[str, ...]) -> bool:
    # What is left of a signature spread over lines has an unmatched bracket.
    return len(key) >= _FEWEST_WORDS and opening.count("(") == opening.count(")")


def _without_signature(doc: str) -> str:
    # Built-in functions often repeat their signature in the first lines.
    lines = doc.strip().splitlines()
    while lines and (not lines[0].strip() or _SIGNATURE_LINE.match(lines[0].strip())):
        lines.pop(0)
    return _SIGNATURE_HEAD.sub("", "\n".join(lines), count=1).strip()


def _signature(found: object) -> str:
    # Names alone: a default may hold this machine's environment, paths or addresses.
    if not callable(found):
        return ""
    try:
        return f"({', '.join(inspect.signature(found).parameters)})"
    except (ValueError, TypeError, NameError, AttributeError):
        return "()"


def _documented() -> Iterator[tuple[str, object, str]]:
    seen: set[int] = set()
    for module in _modules():
        for name, found in sorted(vars(module).items()):
            if not _is_public(name) or not _belongs(found, module, name) or id(found) in seen:
                continue
            seen.add(id(found))
            qualified = f"{module.__name__}.{name}"
            if qualified in _REPLACED_AT_RUN_TIME:
                continue
            if (doc := _own_doc(found)) is not None:
                yield qualified, found, doc
            if inspect.isclass(found):
                yield from _methods(found, qualified)


def _methods(owner: type, qualified: str) -> Iterator[tuple[str, object, str]]:
    for name, found in sorted(vars(owner).items()):
        inner = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        if _is_public(name) and inspect.isroutine(inner) and (doc := _own_doc(inner)) is not None:
            yield f"{qualified}.{name}", inner, doc


def _own_doc(found: object) -> str | None:
    is_documentable = inspect.isclass(found) or inspect.isroutine(found)
    doc = getattr(found, "__doc__", None) if is_documentable else None
    return doc if isinstance(doc, str) and doc.strip() else None


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _belongs(found: object, module: ModuleType, name: str) -> bool:
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return False
    exported = getattr(module, "__all__", None)
    if exported is not None:
        return name in exported
    return getattr(found, "__module__", None) in (module.__name__, None)


def _modules() -> Iterator[ModuleType]:
    for name in sorted(sys.stdlib_module_names - _SKIPPED):
        if _is_public(name):
            yield from _tree(name)


def _tree(name: str) -> Iterator[ModuleType]:
    module = _import_silently(name)
    if module is None:
        return
    yield module
    for info in sorted(pkgutil.iter_modules(getattr(module, "__path__", []), f"{name}."), key=lambda item: item.name):
        last = info.name.rpartition(".")[2]
        if _is_public(last) and last not in _SKIPPED_PARTS:
            yield from _tree(info.name)


def _import_silently(name: str) -> ModuleType | None:
    quiet = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - a module of another platform may fail in any way; it has no entries here
        return None
