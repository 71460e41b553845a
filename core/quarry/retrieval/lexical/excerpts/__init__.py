"""Beginnings of documents: what suggestions are made from."""
