"""What server and trainer agree on: what is asked of a job, and what it leaves behind."""
