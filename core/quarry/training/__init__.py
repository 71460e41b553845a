"""The contract of server and trainer: what is asked of a job, and what it leaves behind."""
