"""The evidence of feedback and judgments: queries, positives, and what is known of a pair."""
