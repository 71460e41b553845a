"""Quarry: a search stack that learns from its own clicks."""
