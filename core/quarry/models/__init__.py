"""Encoders and cross-encoders: finding, exporting, running and batching them."""
