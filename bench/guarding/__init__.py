"""Streams in which a learner is harmed, for `bench/guard.py`."""
