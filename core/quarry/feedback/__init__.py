"""The feedback log: impressions and events, kept in a database of their own."""
