"""The shaping of ranked lists: pinned and hidden documents, boosts, groups, diversity, and what is alike."""
