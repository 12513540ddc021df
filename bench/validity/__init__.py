"""Parts of the proof that the guard says improved when it is so, and not more often otherwise."""
