"""`quarry config`: what can be set, and what is set."""

from pathlib import Path
from typing import Annotated

import typer

from quarry.config_files import write_example, write_settings
from quarry_cli.commands.serve import read_settings


def config(
    example: Annotated[
        bool, typer.Option("--example", help="Print a file with every setting, its meaning and its default.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option("--config", exists=True, dir_okay=False, help="TOML file of settings.")
    ] = None,
) -> None:
    """Print the settings that `quarry serve --config FILE` would start with, or say what is wrong with them.

    `quarry config --example > quarry.toml` makes a file to begin with.
    """
    typer.echo(write_example() if example else write_settings(read_settings(file)), nl=False)
