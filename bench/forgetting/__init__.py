"""Parts of the forgetting bench, one file each."""
