"""Export and import: what an engine knows in files that others can read, and back again."""

from sona.engine.exchange.verbs import Exchange, Exported, Imported

__all__ = ["Exchange", "Exported", "Imported"]
