"""Low-rank corrections of a vector, and the signals that train them."""
