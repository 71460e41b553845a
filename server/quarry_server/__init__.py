"""The gRPC services of Quarry."""

import os

from quarry.environment import forbid_hub

forbid_hub()
# Processes are started by exec alone; gRPC's fork handlers would only complain about it. Read on import.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
