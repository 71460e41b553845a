"""`python -m quarry_cli` is `quarry`."""

from quarry_cli.main import app

app(prog_name="quarry")
