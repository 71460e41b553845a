"""What a mining set says of itself, whether to train on it, and the page that shows it."""
