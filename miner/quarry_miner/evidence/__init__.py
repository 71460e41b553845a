"""What feedback and judgments say: queries, positives, and what is known of a pair."""
