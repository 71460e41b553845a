"""How a model is run: on which engine, with which weights, in which batches."""
