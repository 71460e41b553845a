"""Long-running operations: their state, progress and results."""
