"""State trees: what a component writes down so that it comes back bit for bit, and the file they live in.

A `State` is a tree of named arrays and plain values. Every learner has `state()` and `from_state(state)`.
On disk a tree is one safetensors file: each array under its path (`"base/down"`), everything else as one
JSON document beside them, and a SHA-256 over all of it. No pickle; a file is replaced whole or not at all.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
import numpy.typing as npt

from sona.errors import StoreError

FORMAT_VERSION = 1
_DOCUMENT = "document.json"

Array: TypeAlias = npt.NDArray[np.generic]
Plain: TypeAlias = Union[bool, int, float, str, Sequence["Plain"], Mapping[str, "Plain"], None]
Value: TypeAlias = Union[Array, Plain, "State"]


class State:
    """A tree of named arrays and plain values, read through checked accessors.

    Every accessor raises StoreError, with the path of the value, when it is missing or of another kind.

    >>> tree = State({"width": 3, "weights": np.zeros((2, 3), np.float32), "inner": State({"name": "x"})})
    >>> tree.whole("width"), tree.array("weights", np.float32, (None, 3)).shape, tree.child("inner").text("name")
    (3, (2, 3), 'x')
    """

    __slots__ = ("_path", "_values")

    def __init__(self, values: Mapping[str, Value], path: str = "") -> None:
        """Hold `values`; `path` is where this tree sits in a larger one, for errors."""
        self._values = dict(values)
        self._path = path

    def __contains__(self, name: str) -> bool:
        """Return True when `name` is present."""
        return name in self._values

    def items(self) -> Iterator[tuple[str, Value]]:
        """Yield the names and values of this level, in order."""
        yield from self._values.items()

    def _where(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name

    def _get(self, name: str) -> Value:
        if name not in self._values:
            raise StoreError(f"saved state: {self._where(name)} is missing")
        return self._values[name]

    def _wrong(self, name: str, expected: str) -> StoreError:
        return StoreError(f"saved state: {self._where(name)} should be {expected}")

    def child(self, name: str) -> State:
        """Return the subtree `name`."""
        value = self._get(name)
        if not isinstance(value, State):
            raise self._wrong(name, "a subtree")
        return State(value._values, self._where(name))

    def array(self, name: str, dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> npt.NDArray[np.generic]:
        """Return a copy of the array `name`; None in `shape` allows any length there."""
        value = self._get(name)
        if not isinstance(value, np.ndarray) or value.dtype != np.dtype(dtype) or value.ndim != len(shape):
            raise self._wrong(name, f"a {np.dtype(dtype)} array of {len(shape)} dimensions")
        if any(want is not None and want != have for want, have in zip(shape, value.shape, strict=True)):
            raise self._wrong(name, f"of shape {shape}, is {value.shape}")
        return value.copy()

    def floats(self, name: str, *shape: int | None) -> npt.NDArray[np.float32]:
        """Return a copy of the float32 array `name`."""
        return self.array(name, np.float32, shape).astype(np.float32, copy=False)

    def doubles(self, name: str, *shape: int | None) -> npt.NDArray[np.float64]:
        """Return a copy of the float64 array `name`."""
        return self.array(name, np.float64, shape).astype(np.float64, copy=False)

    def wholes(self, name: str, *shape: int | None) -> npt.NDArray[np.int64]:
        """Return a copy of the int64 array `name`."""
        return self.array(name, np.int64, shape).astype(np.int64, copy=False)

    def whole(self, name: str) -> int:
        """Return the whole number `name`."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "a whole number")
        return value

    def number(self, name: str) -> float:
        """Return the number `name`."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, "a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """Return the truth value `name`."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def text(self, name: str) -> str:
        """Return the text `name`."""
        value = self._get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def listing(self, name: str) -> list[Plain]:
        """Return the plain list `name`."""
        value = self._get(name)
        if isinstance(value, (str, State, np.ndarray)) or not isinstance(value, Sequence):
            raise self._wrong(name, "a list")
        return list(value)

    def texts(self, name: str) -> list[str]:
        """Return the list of texts `name`."""
        values = self.listing(name)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of texts")
        return [str(value) for value in values]

    def mapping(self, name: str) -> dict[str, Plain]:
        """Return the plain mapping `name`."""
        value = self._get(name)
        if isinstance(value, State) or not isinstance(value, Mapping):
            raise self._wrong(name, "a mapping")
        return dict(value)


def _flatten(state: State, prefix: str, arrays: dict[str, Array]) -> dict[str, Plain]:
    # A subtree becomes {"tree": {...}}, an array {"array": path}, a plain value {"plain": value}.
    document: dict[str, Plain] = {}
    for name, value in state.items():
        path = f"{prefix}/{name}" if prefix else name
        if isinstance(value, State):
            document[name] = {"tree": _flatten(value, path, arrays)}
        elif isinstance(value, np.ndarray):
            if path in arrays or path == _DOCUMENT:
                raise StoreError(f"saved state: the name {path} is taken twice")
            arrays[path] = np.asarray(value, value.dtype.newbyteorder("="), order="C")
            document[name] = {"array": path}
        else:
            document[name] = {"plain": value}
    return document


def _unflatten(document: Mapping[str, Plain], arrays: Mapping[str, Array]) -> State:
    values: dict[str, Value] = {}
    for name, entry in document.items():
        if not isinstance(entry, Mapping):
            raise StoreError(f"saved state: {name} is damaged")
        tree, path = entry.get("tree"), entry.get("array")
        if isinstance(tree, Mapping):
            values[name] = _unflatten(tree, arrays)
        elif isinstance(path, str):
            if path not in arrays:
                raise StoreError(f"saved state: array {path} is missing")
            values[name] = arrays[path]
        else:
            values[name] = entry.get("plain")
    return State(values)


def digest(state: State) -> str:
    """Return the SHA-256 of a state tree: equal exactly when the trees are equal bit for bit."""
    arrays: dict[str, Array] = {}
    document = _flatten(state, "", arrays)
    return _digest(_encode(document), arrays)


def _encode(document: Mapping[str, Plain]) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"saved state: holds a value that is neither an array nor plain ({error})") from error
    return text.encode("utf-8", "surrogatepass")  # file names may hold lone surrogates; json.loads reads them back


def _digest(document: bytes, arrays: Mapping[str, Array]) -> str:
    hasher = hashlib.sha256(document)
    for path in sorted(arrays):
        array = arrays[path]
        hasher.update(f"{path}:{array.dtype.str}:{array.shape}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def encode_state(kind: str, state: State) -> bytes:
    """Return `state` as the bytes of a file; `decode_state` gives it back bit for bit.

    Args:
        kind: What the state is of, such as `"engine"`; `decode_state` asks for the same.
        state: The tree.

    Raises:
        StoreError: the tree cannot be saved.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save  # imported here: `import sona` needs numpy alone

    arrays: dict[str, Array] = {}
    document = _encode(_flatten(state, "", arrays))
    metadata = {"format": "sona", "version": str(FORMAT_VERSION), "kind": kind, "sha256": _digest(document, arrays)}
    tensors = {**arrays, _DOCUMENT: np.frombuffer(document, np.uint8)}
    try:
        return save(tensors, metadata)
    except SafetensorError as error:
        raise StoreError(f"saved state: cannot be written: {error}") from error


def write_state(path: str | os.PathLike[str], kind: str, state: State) -> None:
    """Write `state` to the file `path`, atomically: a crash leaves the old file or the new one.

    Args:
        path: The file; its folder must exist.
        kind: What the state is of, such as `"engine"`; `read_state` asks for the same.
        state: The tree.

    Raises:
        StoreError: the tree cannot be saved or the file not be written; an earlier file is untouched.
    """
    replace_file(Path(path), encode_state(kind, state))


def replace_file(target: Path, content: bytes) -> None:
    """Write `content` to `target` by way of a temporary file beside it, flushed to disk before the swap.

    Raises:
        StoreError: the file cannot be written; an earlier file is untouched.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_leftovers(target: Path) -> None:
    """Remove temporary files that a killed writer of `target` left; call it when no other writer can be at work."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def read_state(path: str | os.PathLike[str], kind: str) -> State:
    """Return the tree that `write_state` put into the file `path`.

    Raises:
        StoreError: missing, unreadable, not ours, of another kind or format version, truncated or damaged.
    """
    target = Path(path)
    if not target.is_file():
        raise StoreError(f"no saved state at {target}")
    try:
        content = target.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {target}: {error.strerror or error}") from error
    return decode_state(content, kind, str(target))


def decode_state(content: bytes, kind: str, what: str) -> State:
    """Return the tree that `encode_state` made `content` of.

    Args:
        content: The bytes.
        kind: What the state should be of.
        what: The name of `content` in an error, such as that of its file.

    Raises:
        StoreError: not ours, of another kind or format version, truncated or damaged.
    """
    metadata, tensors = _parsed(content, what)
    if metadata.get("format") != "sona":
        raise StoreError(f"{what} is not a SONA state")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise StoreError(
            f"{what} has format version {metadata.get('version')}, this SONA reads version {FORMAT_VERSION}"
        )
    if metadata.get("kind") != kind:
        raise StoreError(f"{what} holds the state of a {metadata.get('kind')}, expected {kind}")
    document = tensors.pop(_DOCUMENT, np.zeros(0, np.uint8)).tobytes()
    if _digest(document, tensors) != metadata.get("sha256"):
        raise StoreError(f"{what} is damaged: its checksum does not match")
    return _unflatten(json.loads(document), tensors)


def _parsed(content: bytes, what: str) -> tuple[dict[str, str], dict[str, Array]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load  # imported here: `import sona` needs numpy alone

    try:
        tensors: dict[str, Array] = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, TypeError, KeyError, ValueError) as error:  # a foreign file may have types numpy lacks
        raise StoreError(f"{what} is truncated, damaged or not a saved state: {error}") from error
    return metadata, tensors
