"""Is it better, and can it never be much worse: who sees what was learned, what it changes, how much it may cost."""
