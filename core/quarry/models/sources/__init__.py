"""The sources of models, the ones that a client may name, and what tells two apart."""
