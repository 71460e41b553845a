"""The options of commands that read documents from files."""

import codecs
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from quarry_cli.console import replace_controls
from quarry_cli.files.reading import STANDARD_INPUT, FileFormat

DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " "}


def parse_mapping(texts: Sequence[str] | None) -> dict[str, str]:
    """Parses ``OLD=NEW`` of each text. Raises BadParameter."""
    mapping: dict[str, str] = {}
    for text in texts or ():
        old, equals, new = text.rpartition("=")
        if not (old and equals):
            raise typer.BadParameter(f"{text!r} is not OLD=NEW", param_hint="--map")
        if old in mapping:
            raise typer.BadParameter(f"{old!r} is there twice", param_hint="--map")
        mapping[old] = new.strip()
    return mapping


def parse_delimiter(text: str | None) -> str | None:
    if text is None:
        return None
    delimiter = DELIMITER_NAMES.get(text.lower(), text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise typer.BadParameter(f"{text!r} is not one character, nor one of {', '.join(DELIMITER_NAMES)}")
    return delimiter


def parse_encoding(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        "".encode(text)  # a codec such as hex is there as well, and is none of text
        return codecs.lookup(text).name
    except (LookupError, UnicodeError):
        raise typer.BadParameter(f"{text!r} is no encoding: utf-8, utf-16, cp1252, ...") from None


def check_files(files: list[Path]) -> list[Path]:
    """Refuses what is no file, a pipe or standard input, and standard input that is there twice."""
    for path in files:
        if path != STANDARD_INPUT and (path.is_dir() or not os.access(path, os.R_OK)):
            raise typer.BadParameter(f"{replace_controls(str(path))} is no file that can be read")
    if files.count(STANDARD_INPUT) > 1:
        raise typer.BadParameter("- is there twice")
    return files


FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        callback=check_files,
        show_default=False,
        help="What to read; - is standard input.",
    ),
]
FormatOption = Annotated[
    FileFormat | None, typer.Option("--format", help="Of all files. Default: by the ends of their names.")
]
DelimiterOption = Annotated[
    str | None,
    typer.Option(callback=parse_delimiter, metavar="CHAR", help="Between cells. Default for CSV: what fits."),
]
EncodingOption = Annotated[
    str | None, typer.Option(callback=parse_encoding, metavar="NAME", help="Of text. Default: UTF-8.")
]
ListSeparatorOption = Annotated[
    str, typer.Option(metavar="TEXT", help="Between values of one cell, but for searched text.")
]
IdFieldOption = Annotated[
    str | None,
    typer.Option(metavar="FIELD", help="The document's id. Default: _id, id, or what is shown."),
]
TitleOption = Annotated[str | None, typer.Option(metavar="FIELD", help="The title. Default: by its name.")]
TextOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD", help="Searched beside the title, and no other; repeatable."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Rename a field; OLD= leaves it out; repeatable."),
]
