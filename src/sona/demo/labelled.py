"""Labelled sets with ready embeddings, read in place from a data folder: BANKING77 and Cranfield."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sona.checks import Floats
from sona.demo.evaluation import unit
from sona.errors import StoreError
from sona.state import Plain

DATA_VARIABLE = "SONA_DATA"
DEFAULT_FOLDER = Path("..") / "shared" / "data"


@dataclass(frozen=True, slots=True, eq=False)
class Banking77:
    """Customer questions to a bank, each with one of 77 intents.

    Args:
        labels: Names of the intents: the documents.
        label_vectors: Their embeddings, shape (77, d), length 1.
        train_texts: Questions for learning; likewise `test_texts`.
        train_vectors: Their embeddings, shape (n, d), length 1; likewise `test_vectors`.
        train_labels: The intent of each, a row of `labels`; likewise `test_labels`.
    """

    labels: tuple[str, ...]
    label_vectors: Floats
    train_texts: tuple[str, ...]
    train_vectors: Floats
    train_labels: tuple[int, ...]
    test_texts: tuple[str, ...]
    test_vectors: Floats
    test_labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cranfield:
    """Aerodynamics abstracts with questions and judged answers.

    Args:
        documents: Texts of the abstracts; the id of one is its row.
        document_vectors: Their embeddings, shape (n, d), length 1.
        queries: The questions.
        query_vectors: Their embeddings, shape (q, d), length 1.
        relevant: For each question the ids of its answers.
        paraphrases: For each question its texts with words dropped.
        paraphrase_vectors: Their embeddings, shape (p, q, d), length 1.
    """

    documents: tuple[str, ...]
    document_vectors: Floats
    queries: tuple[str, ...]
    query_vectors: Floats
    relevant: tuple[frozenset[str], ...]
    paraphrases: tuple[tuple[str, ...], ...]
    paraphrase_vectors: Floats


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the data folder: `folder`, else the variable SONA_DATA, else ../shared/data.

    Raises:
        StoreError: it does not exist.
    """
    chosen = Path(folder or os.environ.get(DATA_VARIABLE) or DEFAULT_FOLDER)
    if not chosen.is_dir():
        raise StoreError(f"no data folder at {chosen.absolute()}: set {DATA_VARIABLE} to the folder with the data sets")
    return chosen


def load_banking77(folder: str | os.PathLike[str] | None = None) -> Banking77:
    """Return BANKING77 from the data folder.

    Raises:
        StoreError: the folder or a file is missing or cannot be read.

    Source:
        Casanueva et al. 2020, Efficient Intent Detection with Dual Sentence Encoders (CC BY 4.0).
    """
    home = data_folder(folder) / "banking77"
    labels = tuple(_texts(_json(home / "labels.json"), home))
    train = [_record(row, home) for row in _list(_json(home / "train.json"), home)]
    test = [_record(row, home) for row in _list(_json(home / "test.json"), home)]
    return Banking77(
        labels=labels,
        label_vectors=_vectors(home, "labels", len(labels)),
        train_texts=tuple(_text(row, "text", home) for row in train),
        train_vectors=_vectors(home, "train", len(train)),
        train_labels=tuple(_whole(row, "label", home) for row in train),
        test_texts=tuple(_text(row, "text", home) for row in test),
        test_vectors=_vectors(home, "test", len(test)),
        test_labels=tuple(_whole(row, "label", home) for row in test),
    )


def load_cranfield(folder: str | os.PathLike[str] | None = None) -> Cranfield:
    """Return the Cranfield collection from the data folder.

    Raises:
        StoreError: the folder or a file is missing or cannot be read.

    Source:
        Cleverdon 1967, The Cranfield tests on index language devices.
    """
    home = data_folder(folder) / "cranfield"
    documents = [_record(_parse(line, home), home) for line in _read(home / "documents.jsonl").splitlines()]
    queries = [_record(row, home) for row in _list(_record(_json(home / "queries.json"), home).get("queries"), home)]
    paraphrases = tuple(tuple(_texts(row.get("paraphrases"), home)) for row in queries)
    return Cranfield(
        documents=tuple(_text(row, "text", home) for row in documents),
        document_vectors=_vectors(home, "documents", len(documents)),
        queries=tuple(_text(row, "text", home) for row in queries),
        query_vectors=_vectors(home, "queries", len(queries)),
        relevant=tuple(frozenset(str(item) for item in _list(row.get("relevant"), home)) for row in queries),
        paraphrases=paraphrases,
        paraphrase_vectors=_vectors(home, "paraphrases", len(paraphrases[0]), len(queries)),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot read {path}: {error}; is {DATA_VARIABLE} set to the data folder?") from error


def _parse(text: str, where: Path) -> Plain:
    try:
        parsed: Plain = json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError(f"{where} holds broken JSON: {error}") from error
    return parsed


def _json(path: Path) -> Plain:
    return _parse(_read(path), path)


def _list(value: Plain, where: Path) -> list[Plain]:
    if not isinstance(value, list):
        raise StoreError(f"{where}: expected a list")
    return value


def _texts(value: Plain, where: Path) -> list[str]:
    return [str(item) for item in _list(value, where)]


def _record(value: Plain, where: Path) -> dict[str, Plain]:
    if not isinstance(value, dict):
        raise StoreError(f"{where}: expected records")
    return value


def _text(record: dict[str, Plain], name: str, where: Path) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise StoreError(f"{where}: a record lacks the text {name!r}")
    return value


def _whole(record: dict[str, Plain], name: str, where: Path) -> int:
    value = record.get(name)
    if not isinstance(value, int):
        raise StoreError(f"{where}: a record lacks the number {name!r}")
    return value


def _vectors(home: Path, name: str, *shape: int) -> Floats:
    # Stored as float16, so lengths are 1 only roughly.
    path = home / "minilm.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            raw = archive[name].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(f"cannot read {name} of {path}: {error}") from error
    if raw.shape[:-1] != shape:
        raise StoreError(f"{path}: {name} should be of shape {(*shape, 'd')}, is {raw.shape}")
    return unit(raw)
