"""Forget somebody: what they asked, said and remembered goes, and the state is one that never saw them.

python examples/10_forget_somebody.py
"""

import tempfile
from pathlib import Path

from sona import Context, SonaEngine

SECRET = "The spare key of Ann's house lies under the blue pot."


def main() -> None:
    folder = Path(tempfile.mkdtemp())

    def holds_secret() -> bool:
        return any(b"blue pot" in file.read_bytes() for file in folder.iterdir())

    with SonaEngine.open(folder / "house.db") as engine:
        engine.remember("The heating is in the cellar; turn the red valve to the right.", id="heating")
        engine.remember("The rubbish is collected on Mondays, before seven.", id="rubbish")
        engine.remember(SECRET, id="key", subject="ann")
        for who in ("ann", "bob", "ann"):
            response = engine.process("where is the spare key of the house", Context(user_id=who))
            engine.feedback(response.trajectory_id, quality=1.0)
        engine.flush()
        print("before:", response.text)
        print("the secret is in a file:", holds_secret())

        gone = engine.forget("ann")
        print(f"gone: {gone.memories} memory, {gone.requests} requests, {gone.feedbacks} times feedback;", end=" ")
        print(f"entries of others that named her memory: {gone.amended}")

        print("after:", engine.process("where is the spare key of the house", Context(user_id="bob")).text)
        print("equal to a state without her, bit for bit:", engine.replay().is_equal)
    print("the secret is in a file:", holds_secret())


if __name__ == "__main__":
    main()
