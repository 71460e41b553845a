"""The gRPC services of Quarry."""
