"""Plans that a real server explained, kept beside the tests with the statement each is of."""

import json
from pathlib import Path

from sona.tuner.plans.plan import NeuralDagPlan

FOLDER = Path(__file__).parent.parent / "data" / "plans"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def document(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["plan"]


def plan(name, **settings) -> NeuralDagPlan:
    return NeuralDagPlan.from_explain(document(name), **settings)


def node(kind="Seq Scan", plans=(), **fields):
    """A node as EXPLAIN writes it; `Plans` get the relationships that PostgreSQL gives to children."""
    costs = {"Startup Cost": 0.0, "Total Cost": 10.0, "Plan Rows": 100, "Plan Width": 8}
    below = [
        {"Parent Relationship": side, **one} for side, one in zip(("Outer", "Inner", "Member"), plans, strict=False)
    ]
    return {"Node Type": kind, **costs, **fields, **({"Plans": below} if below else {})}


def made(root, **beside) -> NeuralDagPlan:
    return NeuralDagPlan.from_explain([{"Plan": root, **beside}])


def timed(milliseconds, loops=1, rows=1):
    """What EXPLAIN ANALYZE adds to a node."""
    return {"Actual Startup Time": 0.0, "Actual Total Time": milliseconds, "Actual Rows": rows, "Actual Loops": loops}
