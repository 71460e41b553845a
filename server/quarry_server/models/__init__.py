"""ModelService: versions of models and of rankings, and which of them serve."""
