"""What a training reads: examples, judged queries and their division, and what the live server gives."""
