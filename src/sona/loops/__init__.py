"""How much to learn, and when."""
