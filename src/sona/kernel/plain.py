"""What the kernel takes as it is: arrays of one type, aligned, C-contiguous, of the right shape."""

from __future__ import annotations

import numpy as np


def is_plain(value: object, kind: type[np.generic], *shape: int | None) -> bool:
    """Return True for an array of just this type and shape (None: any length), as the kernel needs it."""
    if type(value) is not np.ndarray or value.dtype != kind or not value.dtype.isnative or value.ndim != len(shape):
        return False
    fits = all(wanted is None or wanted == found for wanted, found in zip(shape, value.shape, strict=True))
    return fits and value.flags.c_contiguous and value.flags.aligned
