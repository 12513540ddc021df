"""SONA: a layer that makes a running system learn from every request."""
