"""The commands of `quarry`, one module a command or a group of them."""
