"""How weights are learned: forms of models, losses, and the loop over batches."""
