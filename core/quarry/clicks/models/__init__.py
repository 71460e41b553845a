"""The click models that can be chosen, one module a model."""
