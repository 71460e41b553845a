"""A job's own process, and what it makes of a collection."""
