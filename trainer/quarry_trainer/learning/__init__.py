"""The learning of weights: forms of models, losses, and the loop over batches."""
