"""First-stage retrieval: one module an engine, behind the Protocols of `base`."""
