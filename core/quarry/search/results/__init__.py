"""Makes snippets of hits, and lists in the order of fields."""
