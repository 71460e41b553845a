"""The examination of each rank, told from hits that stood at different ranks."""
