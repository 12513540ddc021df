"""Words in: remember texts, ask, say how good the answer was, close, and find everything as it was left.

python examples/02_remember_and_ask.py        needs: pip install 'sona[text]'
"""

import tempfile
from pathlib import Path

from sona import Context, SonaEngine

FAQ = {
    "password": "To reset your password, open Settings, then Security, and choose Reset.",
    "invoice": "Invoices are sent by mail on the first day of each month.",
    "address": "To change the delivery address of an order, open the order and choose Edit.",
    "refund": "A refund takes five days to arrive on the card that paid for the order.",
}
QUESTION = "the order never came, I want my money"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "support.db"

        with SonaEngine.open(path) as engine:  # makes the file, or resumes it
            for name, text in FAQ.items():
                engine.remember(text, id=name)
            engine.remember(FAQ["refund"])  # the same text is the same memory
            print(f"{engine.memory_count} memories")

            response = engine.process(QUESTION, Context(user_id="anna"))
            print(f"first answer   {response.confidence:.2f}  {response.text}")
            for source in response.sources:
                print(f"               {source.score:+.2f}  {source.id}")
            engine.feedback(response.trajectory_id, rewards={"refund": 1.0})  # the others earned 0
            response = engine.process(QUESTION)
            print(f"after feedback {response.confidence:.2f}  {response.text}")

        with SonaEngine.open(path) as engine:  # closing wrote the file: answers are equal bit for bit
            again = engine.process(QUESTION)
            print(f"after restart  {again.confidence:.2f}  {again.text}")
            print(f"requests over the engine's life: {engine.metrics().requests}")


if __name__ == "__main__":
    main()
