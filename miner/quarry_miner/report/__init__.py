"""The report of a mining set: its figures, whether to train on it, and the page that shows it."""
