"""The `quarry` command: a gRPC client like any other."""

import os

import quarry as quarry  # forbids telemetry before any library is imported

# Processes are started by exec alone; gRPC's fork handlers would only complain about it. Read on import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Each failed handshake would be a line of gRPC's own, without a name, beside the error that says what to do.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
