"""Stores: where the log and the states of an engine live."""
