"""Words in and out: embedders and responders."""
