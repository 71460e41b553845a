"""Where models come from, which of them a client may name, and what tells two apart."""
