"""What `quarry doctor` looks at, and what it says of one thing."""
