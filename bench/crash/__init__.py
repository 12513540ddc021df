"""Parts of `bench/crash.py`: what a process does while it is killed, how it is killed, and what its file holds then."""
