"""How a data folder keeps what it holds: marks, checks at the start, quarantine, a clock that never jumps."""
