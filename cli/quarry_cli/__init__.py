"""The `quarry` command: a gRPC client like any other."""
