"""A turn of the loop: feedback becomes examples, a model and a report."""
