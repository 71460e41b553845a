"""The rules by which negatives are chosen, one module a family."""
