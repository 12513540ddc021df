"""Feedback may come late, twice, be changed later, or name a request nobody knows: each has one meaning.

python examples/03_feedback_late_and_amended.py
"""

import numpy as np

from sona import InvalidValue, SonaEngine, UnknownTrajectory

IDS = tuple(f"doc-{number}" for number in range(20))


def main() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 32)).astype(np.float32)
    requests = vectors[:5] + 0.5 * rng.normal(size=(5, 32)).astype(np.float32)
    engine = SonaEngine()

    rankings = [engine.rank(x, IDS, vectors, k=5) for x in requests]
    first, last = rankings[0], rankings[-1]
    a, b = first.ids[1], first.ids[2]

    def places() -> str:
        ids = engine.rank(requests[0], IDS, vectors, k=20).ids
        return f"{a} is at place {ids.index(a) + 1}, {b} at place {ids.index(b) + 1}"

    # In any order, and as late as `feedback_window_s` allows.
    print("late     ", engine.feedback(last.trajectory_id, rewards={last.ids[0]: 1.0}).outcome)
    print("first    ", engine.feedback(first.trajectory_id, rewards={a: 1.0}).outcome, "-", places())
    print("repeated ", engine.feedback(first.trajectory_id, rewards={a: 1.0}).outcome, "-", places())

    # A change of mind: what the earlier feedback taught is taken back. Rewards merge by item.
    result = engine.feedback(first.trajectory_id, rewards={a: 0.0, b: 1.0})
    print("amended  ", f"credited {', '.join(result.credited)} -", places())

    try:
        engine.feedback(999, quality=1.0)
    except UnknownTrajectory as error:
        print("unknown  ", error)
    try:
        engine.feedback(first.trajectory_id, rewards={"doc-never-shown": 1.0})
    except InvalidValue as error:
        print("refused  ", error)

    metrics = engine.metrics()
    print(
        f"counters  requests {metrics.requests}, with feedback {metrics.feedbacks}, amended {metrics.amended}, "
        f"repeated {metrics.repeated}, unknown {metrics.unknown}, awaiting {metrics.awaiting_feedback}"
    )


if __name__ == "__main__":
    main()
