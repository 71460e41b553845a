"""The feedback log as learning reads it: what counts, what became of each hit, and what is new."""
