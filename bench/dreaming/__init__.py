"""Parts of the bench of dreams, one file each."""
