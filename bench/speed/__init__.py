"""The parts of `speed_loops.py`."""
