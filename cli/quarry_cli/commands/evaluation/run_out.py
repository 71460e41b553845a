"""``--run-out [RUN=]FILE`` of `quarry evaluate`: which run goes into which file."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from quarry_cli.console import count_things, note
from quarry_cli.failures import CliError
from quarry_cli.inputs.run_file import Ranked, write_run


class RunOut(NamedTuple):
    """A run to write.

    Attributes:
        run: its name; empty: what searches give.
    """

    run: str
    path: Path


def parse_run_outs(given: Sequence[str]) -> list[RunOut]:
    """Parses ``FILE`` and ``RUN=FILE``. What has a path separator before its ``=`` is a file.

    Raises CliError where a part is empty.
    """
    found = []
    for one in given:
        name, equals, file = one.partition("=")
        if not equals or any(separator in name for separator in (os.sep, os.altsep) if separator):
            name, file = "", one
        elif not name:
            file = ""
        if not file:
            raise CliError(f"--run-out {one!r}: is not FILE or RUN=FILE", f"./{one} is a file")
        found.append(RunOut(name, Path(file)))
    return found


def check_run_outs(wanted: Sequence[RunOut], runs: Collection[str]) -> None:
    """Raises CliError for a run that this evaluation does not make."""
    for one in wanted:
        if one.run and one.run not in runs:
            target = f"{one.run}={one.path}"
            raise CliError(
                f"--run-out {target}: there is no run {one.run}",
                f"there are {', '.join(runs)}; ./{target} is a file",
            )


def write_run_outs(wanted: Sequence[RunOut], runs: dict[str, Ranked]) -> None:
    """Writes each of the wanted runs, which are there."""
    for one in wanted:
        name = one.run or ("reranked" if "reranked" in runs else "fused")
        write_run(one.path, runs[name], f"quarry-{name}")
        note(f"{name}: {count_things(len(runs[name]), 'query', 'queries')} in {one.path}")
