"""Models as torch builds them, to be trained and exported."""
