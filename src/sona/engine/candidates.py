"""What may be ranked: the caller's items, checked once where they cannot change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sona import kernel
from sona.checks import Floats, embeddings
from sona.errors import InvalidValue


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Items that may be ranked.

    Args:
        ids: Item ids, n of them.
        vectors: Their vectors, shape (n, d).
        scale: 1 / length of each vector, 0 for a zero vector, shape (n,); None when all have length 1.
        row_of: Row of each id; may know more ids than there are vectors.
    """

    ids: Sequence[str]
    vectors: Floats
    scale: Floats | None
    row_of: Mapping[str, int]

    @classmethod
    def checked(cls, ids: Sequence[str], vectors: npt.ArrayLike, width: int) -> Candidates:
        """Return candidates made of caller's input.

        Raises:
            DimensionMismatch: vectors of another width.
            InvalidValue: no candidates, ids that repeat, are no texts or do not match the vectors, NaN or infinity.
        """
        array = embeddings(vectors, width, "vectors")
        if array.ndim != 2:
            raise InvalidValue(f"vectors: expected shape (n, d), got {array.shape}")
        if len(ids) != len(array) or len(array) == 0:
            raise InvalidValue(f"expected one id per vector and at least one, got {len(ids)} ids, {len(array)} vectors")
        if not all(issubclass(kind, str) for kind in set(map(type, ids))):
            raise InvalidValue("ids: expected texts")
        row_of = dict(zip(ids, range(len(ids)), strict=True))
        if len(row_of) != len(ids):
            raise InvalidValue("ids: expected all different, got one more than once")
        square = np.einsum("ij,ij->i", array, array)
        scale = np.zeros_like(square)
        np.divide(1.0, np.sqrt(square), out=scale, where=square > 0.0)
        return cls(ids, array, scale, row_of)

    @classmethod
    def renewed(cls, recent: Candidates | None, ids: Sequence[str], vectors: npt.ArrayLike, width: int) -> Candidates:
        """Return `recent` when it was made of these very objects and neither can have changed, else a checked one."""
        if (
            recent is not None
            and ids is recent.ids
            and vectors is recent.vectors
            and recent.is_fixed
            and recent.vectors.shape[1] == width
        ):
            return recent
        return cls.checked(ids, vectors, width)

    @property
    def is_fixed(self) -> bool:
        """True when neither ids nor vectors can change: ask when they are checked, before they are kept."""
        return isinstance(self.ids, tuple) and _is_fixed(self.vectors)

    def cosines(self, x: Floats) -> Floats:
        """Return the cosine of every item to `x` of length 1, shape (n,)."""
        found = kernel.products(self.vectors, x)
        return self._scaled(self.vectors @ x if found is None else found)

    def cosines_of_two(self, x: Floats, heading: Floats) -> tuple[Floats, Floats]:
        """Return `cosines` of `x`, bit for bit, and of a second vector; the items are read once.

        Both are the same array where the second vector is `x` itself.
        """
        if heading is x:
            plain = self.cosines(x)
            return plain, plain
        found = kernel.products_of_two(self.vectors, x, heading)
        if found is None:
            return self.cosines(x), self.cosines(heading)
        return self._scaled(found[0]), self._scaled(found[1])

    def _scaled(self, products: Floats) -> Floats:
        return products if self.scale is None else products * self.scale


def _is_fixed(array: Floats) -> bool:
    base = array.base
    return not array.flags.writeable and (base is None or (isinstance(base, np.ndarray) and not base.flags.writeable))
