"""Which settings a statement runs with: what is tried, under which budget, and what stays in force."""
