"""Makes models from mined examples, and says whether they are better."""
