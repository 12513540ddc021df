"""`python -m sona` is `sona`."""

from __future__ import annotations

from sona.cli import main

if __name__ == "__main__":
    main()
