"""Documents in files as people have them: formats, ids, and the schema that fits them."""
