"""A small task and rankers with known behaviour, for the tests of the demo room."""

import numpy as np

from sona.demo.evaluation import top_cosine
from sona.demo.experiment import FrozenRanker
from sona.demo.tasks import RequestSet, Task
from sona.types import Ranking


def toy_task(seed=0, documents=30, streamed=24, unseen=12, passes=2):
    """Requests whose answer is somewhere in the frozen top ten, seldom first."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(documents, 8)).astype(np.float32)
    ids = tuple(f"d{row}" for row in range(documents))

    def requests(part, count):
        asked = rng.normal(size=(count, 8)).astype(np.float32)
        answers = [frozenset({ids[int(best[4])]}) for best in top_cosine(asked, vectors)]
        keys = tuple(f"{part}{row}" for row in range(count))
        return RequestSet(keys, tuple(f"ask {key}" for key in keys), asked, tuple(answers))

    stream, held_out = requests("s", streamed), requests("h", unseen)
    return Task("toy", "A toy.", seed, ids, ids, vectors, stream, passes, stream, held_out, None, (0,))


class RememberingRanker(FrozenRanker):
    """Puts the most clicked document of the very same request first: helps repeats and nothing else."""

    def __init__(self):
        super().__init__()
        self.issued = {}
        self.earned = {}
        self.learned = 0

    def rank(self, x, ids, vectors, k=10):
        ranking = super().rank(x, ids, vectors, k)
        earned = self.earned.get(x.tobytes(), {})
        order = sorted(ranking.ids, key=lambda item: -earned.get(item, 0.0))
        self.issued[ranking.trajectory_id] = x.tobytes()
        return Ranking(ranking.trajectory_id, tuple(order), ranking.scores)

    def feedback(self, trajectory_id, *, rewards=None):
        earned = self.earned.setdefault(self.issued[trajectory_id], {})
        for item, reward in rewards.items():
            earned[item] = earned.get(item, 0.0) + reward

    def background_learn(self, force=False):
        self.learned += force
