"""Recombining memories: walks that propose links, and how integrated what they visit is."""
