"""What models made before, kept so that it is not made again: scores, and states of passages."""
