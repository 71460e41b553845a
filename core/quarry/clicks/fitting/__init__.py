"""Learns examination and relevance together, and says how sure both are."""
