"""Puts a server together in three phases: open what it works with, recover from the last end, serve."""
