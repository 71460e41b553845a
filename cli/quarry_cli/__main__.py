"""`python -m quarry_cli` is `quarry`."""

from quarry_cli.main import run

run()
