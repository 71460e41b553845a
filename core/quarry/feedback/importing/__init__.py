"""Logs of impressions and events in files, and how they come into the feedback log."""
