"""The input of a person, in files and typed, and how it becomes messages."""
