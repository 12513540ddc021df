"""Vectors in: rank items for a request, say which one helped, and see the next ranking follow.

python examples/01_rank_vectors.py
"""

from sona import SonaEngine

IDS = ("reset-password", "change-email", "close-account")
VECTORS = [[0.9, 0.1, 0.0], [0.7, 0.7, 0.1], [0.0, 0.2, 0.9]]
REQUEST = [0.9, 0.4, 0.1]


def show(title: str, ids: tuple[str, ...], scores: tuple[float, ...]) -> None:
    print(title)
    for item, score in zip(ids, scores, strict=True):
        print(f"  {score:+.3f}  {item}")


def main() -> None:
    engine = SonaEngine()  # lives in memory; the width of vectors is that of the first one

    before = engine.rank(REQUEST, IDS, VECTORS, k=3)
    show("untrained: the cosine, nothing else", before.ids, before.scores)

    # What was shown and is not named earned 0.
    result = engine.feedback(before.trajectory_id, rewards={"change-email": 1.0})
    print(f"feedback: {result.outcome}, credited {', '.join(result.credited)}")

    after = engine.rank(REQUEST, IDS, VECTORS, k=3)
    show("asked again: the same request follows its own feedback at once", after.ids, after.scores)

    other = engine.rank([0.1, 0.3, 0.9], IDS, VECTORS, k=3)
    show("another request: its order is untouched, reach has to be earned", other.ids, other.scores)


if __name__ == "__main__":
    main()
