"""What is kept of earlier tasks, and what it costs: closed form, split digits, task boundaries, domains of requests.

python bench/quality_forgetting.py [--json FILE] [--quick]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: the matrices are too small for threads to pay

import argparse
import json
import time
from pathlib import Path

from forgetting import closed_form, retrieval, split_digits, stream

SCHEDULES = ((10, 8, split_digits.METHODS), (60, 3, split_digits.METHODS), (300, 2, split_digits.BRAKES))
QUICK_SCHEDULES = ((10, 3, split_digits.METHODS),)  # epochs a task, seeds, methods
STREAM_FIGURES = ("found", "delay_batches")


def show_closed_form(found: dict) -> None:
    print("A. Two quadratic losses, one after the other: where the parameter ends")
    print(f"   {'joint optimum (closed form)':34}{found['expected']:12.7f}")
    for name in ("ours", "explicit_penalty", "specification", "naive"):
        print(f"   {name:34}{found[name]:12.7f}   error {abs(found[name] - found['expected']):.1e}")
    ends = "diverges" if found["stiff_explicit_diverges"] else "is stable"
    print(f"   at eta lambda F = 2.5 the explicit penalty {ends}; ours ends at {found['stiff_ours']:.4f}")


def show_split_digits(found: dict) -> None:
    print(f"B. Split digits, {found['epochs']} epochs a task, {found['seeds']} seeds: points, mean +- sd over seeds")
    print(f"   {'method':18}{'accuracy':>16}{'forgetting':>18}")
    for method, row in found["methods"].items():
        lost = f"{row['forgetting']:8.1f} +- {row['forgetting_sd']:.1f}" if "forgetting" in row else "-"
        print(f"   {method:18}{row['acc']:9.1f} +- {row['acc_sd']:.1f}{lost:>18}")


def show_stream(found: dict) -> None:
    if "skipped" in found:
        print(f"Boundaries: skipped, {found['skipped']}")
        return
    print(f"Boundaries on sentence embeddings, batches of {stream.BATCH}, {found['seeds']} seeds")
    print(f"   {'stream':36}{'found':>8}{'delay (batches)':>18}{'false per 1000':>16}")
    for name, row in found.items():
        if name != "seeds":
            seen = (
                f"{row['found']:8.2f}{row['delay_batches']:18.1f}" if row.get("delay_batches") else f"{'-':>8}{'-':>18}"
            )
            print(f"   {name:36}{seen}{row['false_per_1000']:16.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer seeds, ten epochs only, small domains")
    options = parser.parse_args()
    began = time.perf_counter()
    figures: dict = {"closed_form": closed_form.run()}
    show_closed_form(figures["closed_form"])
    for epochs, seeds, methods in QUICK_SCHEDULES if options.quick else SCHEDULES:
        figures[f"split_digits_{epochs}"] = split_digits.run(epochs, seeds, methods)
        show_split_digits(figures[f"split_digits_{epochs}"])
    figures["boundary"] = stream.run(seeds=4 if options.quick else 20)
    show_stream(figures["boundary"])
    figures["retrieval"] = retrieval.run(seeds=1 if options.quick else 3, small=options.quick)
    retrieval.show(figures["retrieval"])
    figures["seconds"] = time.perf_counter() - began
    print(f"{figures['seconds']:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
