"""Counts and orders documents by the values of fields in Tantivy."""
