"""The versions of models there are, and which of them serves."""
