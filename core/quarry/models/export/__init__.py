"""From torch to graphs that are run without it, each held to what torch gives."""
