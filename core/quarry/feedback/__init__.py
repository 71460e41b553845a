"""What was shown and what people did with it: impressions and events, kept in a database of their own."""
