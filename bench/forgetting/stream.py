"""Boundary detection on sentence embeddings: one domain after another, and one domain shuffled as the control."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sona.retention import BoundaryDetector

BATCH, BEFORE, AFTER = 32, 640, 320


@dataclass(frozen=True, slots=True)
class Domains:
    """Embeddings of the labelled sets, float32 (n, 384)."""

    banking: np.ndarray
    queries: np.ndarray
    documents: np.ndarray


def data_folder() -> Path:
    return Path(os.environ.get("SONA_DATA", Path(__file__).parents[3] / "shared" / "data"))


def load(folder: Path) -> Domains | None:
    """Return the embeddings, or None where the data are absent."""
    files = [folder / name / "minilm.npz" for name in ("banking77", "cranfield")]
    if not all(file.is_file() for file in files):
        return None
    with np.load(files[0]) as banking, np.load(files[1]) as cranfield:
        return Domains(
            np.concatenate([banking["train"], banking["test"]]).astype(np.float32),
            np.concatenate([cranfield["queries"], *cranfield["paraphrases"]]).astype(np.float32),
            cranfield["documents"].astype(np.float32),
        )


def alarms(detector: BoundaryDetector, rows: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Return the batches (from 1) that ended with a boundary."""
    starts = range(0, len(rows) - BATCH + 1, BATCH)
    return [k for k, s in enumerate(starts, 1) if detector.observe(rows[s : s + BATCH], rng=rng).is_boundary]


def change(first: np.ndarray, second: np.ndarray, seeds: int) -> dict:
    """Return how often the change was found, after how many batches, and the false alarms before it."""
    delays, false = [], 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        detector = BoundaryDetector()
        false += len(alarms(detector, first[rng.permutation(len(first))][:BEFORE], rng))
        delays += alarms(detector, second[rng.permutation(len(second))][:AFTER], rng)[:1]
    return {
        "found": len(delays) / seeds,
        "delay_batches": float(np.mean(delays)) if delays else None,
        "false_per_1000": 1000 * false * BATCH / (BEFORE * seeds),
    }


def run(seeds: int) -> dict:
    """Return the figures of three changes and of a stream without any; a reason where the data are absent."""
    domains = load(data_folder())
    if domains is None:
        return {"skipped": f"no embeddings under {data_folder()}"}
    count = len(domains.banking)
    false = 0
    for seed in range(seeds):
        rng = np.random.default_rng(1000 + seed)
        false += len(alarms(BoundaryDetector(), domains.banking[rng.permutation(count)], rng))
    return {
        "seeds": seeds,
        "banking77_to_cranfield_queries": change(domains.banking, domains.queries, seeds),
        "banking77_to_cranfield_documents": change(domains.banking, domains.documents, seeds),
        "cranfield_documents_to_banking77": change(domains.documents, domains.banking, seeds),
        "banking77_shuffled": {"false_per_1000": 1000 * false / (seeds * (count // BATCH))},
    }
