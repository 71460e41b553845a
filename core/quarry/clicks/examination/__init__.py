"""How well each rank is seen, told from hits that stood at different ranks."""
