"""Is it better? A share of users is answered frozen, and the report says what the difference is, at every look.

python examples/08_is_it_better.py
"""

import numpy as np

from sona import Context, GuardConfig, SonaConfig, SonaEngine

IDS = tuple(f"doc-{number}" for number in range(60))


def stream(is_helpful: bool, settings: GuardConfig, requests: int = 900) -> SonaEngine:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 24)).astype(np.float32)
    vectors.flags.writeable = False
    topics = vectors[:12] + 0.5 * rng.normal(size=(12, 24)).astype(np.float32)
    engine = SonaEngine(SonaConfig(guard=settings))
    for turn in range(requests):
        topic = int(rng.integers(12))
        who = Context(user_id=f"user-{rng.integers(300)}")
        ranking = engine.rank(topics[topic], IDS, vectors, context=who)
        # What is wanted is one thing per topic, which learning can find; or anything, which nobody can.
        wanted = f"doc-{(topic * 7) % 60}" if is_helpful else f"doc-{rng.integers(60)}"
        engine.feedback(ranking.trajectory_id, rewards={wanted: 1.0} if wanted in ranking.ids else {})
        if turn in (150, 400):
            print(f"  after {turn} requests: {engine.report().verdict}, shown {engine.report().exposure:.0%}")
    return engine


def main() -> None:
    print("Something can be learned:")
    print(stream(is_helpful=True, settings=GuardConfig()).report())

    print("\nNothing can be learned:")
    print(stream(is_helpful=False, settings=GuardConfig()).report().as_text().splitlines()[0])

    print("\nNothing is held out, nothing is limited:")
    engine = stream(is_helpful=True, settings=GuardConfig(holdout=0.0, budget=1.0), requests=100)
    print(f"  {engine.report().verdict}: {engine.report().reasons[0]}")

    engine.set_mode("off")  # the kill switch, from the next request on
    print(f"\nMode {engine.mode}: {engine.report().exposure:.0%} of requests are shown what was learned")


if __name__ == "__main__":
    main()
