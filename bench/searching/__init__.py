"""Parts of the bench of vector searches."""
