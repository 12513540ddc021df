"""The parts of `speed_peers.py` and `speed_growth.py`."""
