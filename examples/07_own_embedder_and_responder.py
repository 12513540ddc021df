"""Your own embedder and responder: any callable will do, such as a sentence model and a call to a language model.

python examples/07_own_embedder_and_responder.py
"""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np

from sona import Context, SonaEngine, Source

WIDTH = 256


def embed(texts: list[str]) -> np.ndarray:
    """Return one vector per text: counts of hashed three-letter pieces; a stand-in for a sentence model."""
    vectors = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in enumerate(texts):
        padded = f"  {text.lower()} "
        for start in range(len(padded) - 2):
            piece = hashlib.blake2b(padded[start : start + 3].encode(), digest_size=4).digest()
            vectors[row, int.from_bytes(piece, "big") % WIDTH] += 1.0
    return vectors


def respond(query: str, sources: Sequence[Source], context: Context) -> str:
    """Return an answer made of the memories found; a stand-in for a language model."""
    if not sources:
        return f"Sorry, {context.user_id or 'friend'}, I know nothing about that."
    cited = ", ".join(source.id for source in sources[:2])
    return f"{sources[0].text} [from {cited}]"


async def main() -> None:
    # Instead of a function, the embedder may be a model with `encode` (sentence-transformers has one).
    engine = SonaEngine(embedder=embed, responder=respond)
    engine.remember("The library opens at nine and closes at six.", id="hours")
    engine.remember("Lost library cards are replaced at the front desk.", id="cards")
    engine.remember("Books may be kept for four weeks.", id="loans")

    response = await engine.aprocess("when does the library close?", Context(user_id="anna"))
    print(response.text)
    engine.feedback(response.trajectory_id, quality=1.0)  # the whole was good: credited to the first source

    response = await engine.aprocess("how long may I keep a book?", Context(user_id="anna"))
    print(response.text)
    print([f"{source.id} {source.score:+.2f}" for source in response.sources])


if __name__ == "__main__":
    asyncio.run(main())
