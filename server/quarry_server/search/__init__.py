"""SearchService: searches from and to messages, and what is logged of them."""
