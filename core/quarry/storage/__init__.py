"""The keeping of a data folder: marks, checks at the start, quarantine, a clock that never jumps."""
