"""What a statement is about: values that stand in it, and values given when it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the statement, as it was written."""

    text: str

    @property
    def content(self) -> str:
        """What it says: a plain or dollar-quoted string without its quotes, anything else as it was written."""
        tag = re.match(r"\$[^$]*\$", self.text)
        if tag is not None:
            return self.text[tag.end() : -tag.end()]
        if self.text[:1] == "'":
            return self.text[1:-1].replace("''", "'")
        return self.text


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value given when the statement runs: `key` is its place in the sequence, from 0, or its name."""

    key: int | str


Value = Literal | Parameter
