"""Streams over an engine's own memories, for `bench/quality_recall_graph.py`."""
