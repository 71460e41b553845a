"""The input of a training: examples, judged queries and their division, and what the live server gives."""
