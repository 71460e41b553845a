"""A file arrives as a stream that opens with what the file is for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quarry.errors import InvalidArgumentError, LimitExceededError
from quarry.v1 import feedback_service_pb2 as pb
from quarry_server.common.uploads import StreamForm, receive_file

FORM = StreamForm("message", "config", "data", "over {} bytes")
OPENING = pb.ImportEventsRequest(config=pb.ImportEventsConfig(collection="faq"))


def data(piece: bytes) -> pb.ImportEventsRequest:
    return pb.ImportEventsRequest(data=piece)


async def receive(file: Path, *requests: pb.ImportEventsRequest) -> tuple[str, int]:
    async def stream() -> AsyncIterator[pb.ImportEventsRequest]:
        for request in requests:
            yield request

    async def parse(config: pb.ImportEventsConfig) -> str:
        return config.collection

    return await receive_file(stream(), FORM, parse, file, most_bytes=5)


async def test_the_pieces_become_one_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert await receive(file, OPENING, data(b"ab"), data(b""), data(b"cde")) == ("faq", 5)
    assert file.read_bytes() == b"abcde"


@pytest.mark.parametrize(
    ("requests", "problem"),
    [
        ([], "the stream is empty: it opens with config"),
        ([data(b"ab"), OPENING], "the stream opens with config, and only once"),
        ([OPENING, data(b"ab"), OPENING], "the stream opens with config, and only once"),
        ([OPENING, pb.ImportEventsRequest()], "holds neither config nor data"),
    ],
)
async def test_a_stream_of_another_form_is_refused(
    tmp_path: Path, requests: list[pb.ImportEventsRequest], problem: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=problem) as caught:
        await receive(tmp_path / "file", *requests)
    assert caught.value.field == "message"


async def test_a_file_that_is_too_large_is_given_up_at_once(tmp_path: Path) -> None:
    with pytest.raises(LimitExceededError, match="over 5 bytes"):
        await receive(tmp_path / "file", OPENING, data(b"abcd"), data(b"ef"), OPENING)
    assert (tmp_path / "file").read_bytes() == b"abcd"
