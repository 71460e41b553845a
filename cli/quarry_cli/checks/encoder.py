"""The check that the default encoder can be found, loaded and run."""

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from quarry.errors import QuarryError
from quarry_cli.checks.check import SERVER_EXTRA, Check, CheckState, is_server_installed

NAME = "encoder"


def check_encoder(data: Path) -> Iterator[Check]:
    """Loads the encoder as a server with this data folder would, and encodes a word with it."""
    if not is_server_installed():
        yield Check(NAME, CheckState.WARN, f"not looked at without the server's packages: {SERVER_EXTRA}")
        return
    try:
        from quarry.models.encoder import load_encoder
        from quarry.models.sources.resolve import DEFAULT_ENCODER

        with _open_export_folder(data) as folder:
            encoder = load_encoder(DEFAULT_ENCODER, Path(folder))
            length = encoder.encode(["quarry"]).shape[1]
    except (QuarryError, ImportError, OSError) as error:
        yield Check(NAME, CheckState.FAIL, str(error))
        return
    yield Check(
        NAME, CheckState.OK, f"{encoder.info.name}: {length} dimensions, {encoder.info.max_tokens} tokens"
    )


def _open_export_folder(data: Path) -> "tempfile.TemporaryDirectory[str] | nullcontext[str]":
    # A data folder that is not there yet is not made only to be looked at.
    return nullcontext(str(data)) if (data / "models").is_dir() else tempfile.TemporaryDirectory()
