"""What is learned from plans: patterns, what was tried there, and when that has changed."""
