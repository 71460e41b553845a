"""FeedbackService: events, imports and deletion."""
