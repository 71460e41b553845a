"""The document log and the indexers that follow it."""
