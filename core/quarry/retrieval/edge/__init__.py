"""The dense arm on Qdrant Edge, in a process of its own because the engine holds the GIL in every call."""

from quarry.retrieval.edge.store_client import EdgeDenseStore
from quarry.retrieval.edge.store_settings import EdgeStatus, GraphPolicy

__all__ = ["EdgeDenseStore", "EdgeStatus", "GraphPolicy"]
