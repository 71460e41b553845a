"""What a person gives, in files and typed, and how it becomes messages."""
