"""Finds in a text what a query matches, for whoever marks it."""
