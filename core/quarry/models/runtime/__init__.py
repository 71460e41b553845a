"""The runtime of models: on which engine, with which weights, in which batches."""
