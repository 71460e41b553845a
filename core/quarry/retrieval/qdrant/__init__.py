"""The dense arm on a Qdrant server, asked through its client."""
