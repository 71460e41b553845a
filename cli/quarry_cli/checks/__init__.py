"""The checks of `quarry doctor`, and their results."""
