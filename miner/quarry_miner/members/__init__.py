"""Who is asked for candidates, and where similarity is measured."""
