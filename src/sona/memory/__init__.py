"""Memories and the votes of similar past requests."""
