"""The domain of a ranking: what a search asks for, and the rules by which its results are ordered."""
