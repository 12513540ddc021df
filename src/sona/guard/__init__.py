"""Guard: is it better, and can it never be much worse."""
