"""How a statement is read: its fingerprint, its values, its searches, and why it may not be tuned."""
