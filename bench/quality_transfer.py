"""What kin say of a pattern with few outcomes: error of its predicted quality, with and without, and by lot.

python bench/quality_transfer.py [--json FILE] [--quick]

Questions of BANKING77 are clustered into patterns; the outcome of a question is 1 when the nearest of the 77 intents is
the right one. A pattern's quality is predicted from the questions learned from, and judged by the questions never seen
whose nearest pattern it is. `planted` gives outcomes by a direction of the embedding instead, so that kin must help:
the control that this bench can see it.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: the matrices are too small for threads to pay

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from sona.config import PatternConfig
from sona.demo.labelled import load_banking77
from sona.errors import StoreError
from sona.patterns.bank import ReasoningBank
from sona.patterns.catalog import PatternRecord, Tally
from sona.patterns.hierarchy import Group, Hierarchy, Level, arrange
from sona.patterns.search import normalised
from sona.patterns.transfer import transferred
from sona.types import QueryTrajectory

FEW = 10  # outcomes; what has more needs no help
SIZES = ((300, 60), (600, 100), (1500, 200), (3000, 500))  # questions learned from, most patterns
QUICK = SIZES[:1]
METHODS = ("own", "all", "hierarchy", "by_lot")


def outcomes(data, planted: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    vectors = np.concatenate([data.train_vectors, data.test_vectors])
    if planted:
        along = vectors @ rng.normal(size=vectors.shape[1])
        chance = 1.0 / (1.0 + np.exp(-2.0 * (along - along.mean()) / along.std()))
        return vectors, (rng.random(len(chance)) < chance).astype(float)
    right = (vectors @ data.label_vectors.T).argmax(axis=1) == np.array([*data.train_labels, *data.test_labels])
    return vectors, right.astype(float)


def records_of(bank: ReasoningBank) -> list[PatternRecord]:
    records = []
    for pattern in bank.patterns:
        tally = Tally()
        for trajectory in bank.trajectories_of(pattern.id):
            tally = tally.add(trajectory.quality)
        records.append(PatternRecord(pattern, tally))
    return records


def by_lot(hierarchy: Hierarchy, rng: np.random.Generator) -> Hierarchy:
    ids = sorted(one for group in hierarchy.levels[0].groups for one in group.members)
    other = dict(zip(ids, rng.permutation(ids).tolist(), strict=True))
    return Hierarchy(tuple(Level(tuple(drawn(group, other) for group in level.groups)) for level in hierarchy.levels))


def drawn(group: Group, other: dict[int, int]) -> Group:
    return replace(group, medoid=other[group.medoid], members=tuple(sorted(other[one] for one in group.members)))


def errors(data, count: int, clusters: int, seed: int, *, planted: bool) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    vectors, reward = outcomes(data, planted, rng)
    order = rng.permutation(len(vectors))
    known, unseen = order[:count], order[count:]
    bank = ReasoningBank(PatternConfig(min_cluster_size=2, k_clusters=clusters, min_cohesion=0.0))
    for number, row in enumerate(known):
        bank.add_trajectory(QueryTrajectory(number, vectors[row], final_quality=reward[row]))
    bank.extract_patterns(now=0.0, rng=rng)
    records = records_of(bank)
    centroids = normalised(np.stack([record.pattern.centroid for record in records]))
    nearest = (vectors[unseen] @ centroids.T).argmax(axis=1)
    judged = np.bincount(nearest, minlength=len(records))
    truth = np.bincount(nearest, reward[unseen], len(records)) / np.maximum(judged, 1)
    hierarchy = arrange(bank.patterns)
    predicted = {
        "own": [record.tally.mean for record in records],
        "all": [one.quality for one in transferred(records, Hierarchy())],
        "hierarchy": [one.quality for one in transferred(records, hierarchy)],
        "by_lot": [one.quality for one in transferred(records, by_lot(hierarchy, rng))],
    }
    weight = judged * np.array([record.tally.count < FEW for record in records])
    found = {name: float(weight @ (np.array(values) - truth) ** 2 / weight.sum()) for name, values in predicted.items()}
    return found | {"patterns": int((weight > 0).sum()), "outcomes": count / len(records)}


def table(data, sizes, seeds: int, *, planted: bool) -> list[dict]:
    rows = []
    print(f"   {'learned from':>13}{'patterns < 10':>15}" + "".join(f"{name:>18}" for name in METHODS))
    for count, clusters in sizes:
        runs = [errors(data, count, clusters, seed, planted=planted) for seed in range(seeds)]
        row = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        row |= {f"{name}_sd": float(np.std([run[name] - run["all"] for run in runs])) for name in METHODS}
        rows.append({"learned_from": count, **row})
        shown = "".join(f"{row[name]:10.4f} +- {row[f'{name}_sd']:.4f}" for name in METHODS)
        print(f"   {count:13}{row['patterns']:15.0f}{shown}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="the smallest size, two seeds")
    options = parser.parse_args()
    sizes, seeds = (QUICK, 2) if options.quick else (SIZES, 10)
    try:
        data = load_banking77()
    except StoreError as error:
        figures: dict = {"skipped": str(error)}
        print(f"skipped: {error}")
    else:
        print(f"Mean squared error of the quality of patterns with fewer than {FEW} outcomes, {seeds} seeds;")
        print("+- sd over seeds of the difference to `all`")
        print("A. Outcome: the nearest intent is right")
        figures = {"right": table(data, sizes, seeds, planted=False)}
        print("B. Control: outcomes planted along a direction")
        figures["planted"] = table(data, sizes, seeds, planted=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
