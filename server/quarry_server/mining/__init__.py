"""MiningService: mining jobs from and to messages."""
