"""One row of a file, read through checked accessors: what is wrong is said with file and line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sona.checks import whole
from sona.errors import InvalidValue
from sona.types import require_settings


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put `where` before what the block refuses."""
    try:
        yield
    except InvalidValue as error:
        said = str(error)
        raise InvalidValue(said if said.startswith(where) else f"{where}: {said}") from error


class Row:
    """Plain values by name; every accessor raises InvalidValue when a value is missing or of another kind.

    Args:
        values: What the row holds; names that nobody asks for are passed over.
        where: File and line, for people.

    >>> row = Row({"id": 3, "text": "a"}, "memories.jsonl line 1")
    >>> row.whole("id"), row.text("text"), row.text_or_none("subject")
    (3, 'a', None)
    """

    __slots__ = ("_values", "where")

    def __init__(self, values: object, where: str) -> None:
        """Take a row, or raise InvalidValue when it is none."""
        self.where = where
        if not isinstance(values, Mapping):
            raise InvalidValue(f"{where}: expected an object, got {type(values).__name__}")
        self._values: Mapping[str, object] = values

    def _refuse(self, name: str, expected: str) -> InvalidValue:
        return InvalidValue(f"{self.where}: {name}: expected {expected}, got {self._values.get(name)!r:.60}")

    def value(self, name: str) -> object:
        """Return whatever stands there; None when it is missing."""
        return self._values.get(name)

    def text(self, name: str) -> str:
        """Return a text."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise self._refuse(name, "text")
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a text, or None when there is none."""
        return None if self._values.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        """Return true or false; false when it is missing."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise self._refuse(name, "true or false")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a whole number of at least 0."""
        value = self._values.get(name, default)
        if not isinstance(value, int):
            raise self._refuse(name, "a whole number")
        return whole(value, name, 0)

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refuse(name, "a number")
        return float(value)

    def number_or_none(self, name: str) -> float | None:
        """Return a number, or None when there is none."""
        return None if self._values.get(name) is None else self.number(name)

    def _listing(self, name: str) -> Sequence[object]:
        value = self._values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._refuse(name, "a list")
        return value

    def numbers(self, name: str) -> list[float] | None:
        """Return a list of numbers, or None when there is none."""
        if self._values.get(name) is None:
            return None
        listed = self._listing(name)
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in listed):
            raise self._refuse(name, "a list of numbers")
        return [float(value) for value in listed if isinstance(value, int | float)]

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; an empty one when it is missing."""
        listed = self._listing(name)
        if not all(isinstance(value, str) for value in listed):
            raise self._refuse(name, "a list of texts")
        return [str(value) for value in listed]

    def children(self, name: str) -> list[Row]:
        """Return a list of rows; an empty one when it is missing."""
        return [Row(value, f"{self.where}, {name} {place}") for place, value in enumerate(self._listing(name), 1)]

    def settings(self, name: str) -> dict[str, float | str]:
        """Return numbers and texts by name; none when it is missing."""
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._refuse(name, "numbers or texts by name")
        require_settings(value, name)
        return dict(value)
