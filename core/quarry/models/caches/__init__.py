"""The caches of what models made before: scores, and states of passages."""
