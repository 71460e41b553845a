"""One training from its examples to an evaluated model, for each kind of model."""
