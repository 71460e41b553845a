"""Re-rankers that serve in two steps: states of each text by itself, then scores of pairs."""
