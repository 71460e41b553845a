"""Click models: how relevant a document is, judged by who chose it and where it stood."""
