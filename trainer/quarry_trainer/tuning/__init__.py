"""Fits how a collection's arms are merged to judged queries, or to what people chose."""
