"""Holds the reasons of errors to the enum of the API, and each reason to its status code."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2

from quarry.client.errors import read_status
from quarry.errors import (
    KINDS,
    ConflictingFieldsError,
    DuplicateError,
    InvalidArgumentError,
    InvalidTokenError,
    MalformedError,
    OutOfRangeError,
    QuarryError,
    RequestIdReusedError,
    RequiredError,
    UnknownFieldError,
    UnknownValueError,
    WrongTypeError,
)
from quarry.jobs.child import dump_error
from quarry.jobs.process import load_error
from quarry_cli.failures import HINTS
from quarry_server.common.errors import REASONS, choose_status_code, make_status
from quarry_trainer.loop.calls import to_domain_error

ROOT = Path(__file__).parents[2]
PACKAGES = ("core/quarry", "server/quarry_server", "miner/quarry_miner", "trainer/quarry_trainer")
CLIENT = ROOT / "core/quarry/client"
ERRORS, ENUM, VALUE = "quarry/v1/errors.proto", (5, 0), 2
WRONG_REQUESTS = (
    InvalidArgumentError,
    RequiredError,
    UnknownFieldError,
    OutOfRangeError,
    WrongTypeError,
    UnknownValueError,
    DuplicateError,
    ConflictingFieldsError,
    MalformedError,
    InvalidTokenError,
    RequestIdReusedError,
)


@cache
def parse_modules() -> Mapping[str, ast.Module]:
    """Reads all that runs in the server or in its jobs, by the name of the module."""
    folders = ((ROOT / package).parent for package in PACKAGES)
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts): ast.parse(path.read_text())
        for folder, package in zip(folders, PACKAGES, strict=True)
        for path in (ROOT / package).rglob("*.py")
        if CLIENT not in path.parents and "v1" not in path.parts
    }


@cache
def find_error_classes() -> Mapping[str, type[QuarryError]]:
    """Collects the classes that give themselves a reason, by their reason."""
    found: dict[str, type[QuarryError]] = {}
    for module, tree in parse_modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(_is_reason(line) for line in node.body):
                kind = getattr(import_module(module), node.name)
                if issubclass(kind, QuarryError):
                    assert kind.reason not in found, f"{kind} and {found[kind.reason]} have one reason"
                    found[kind.reason] = kind
    return found


def _is_reason(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "reason"


def find_raised() -> Iterator[str]:
    """Yields the names of the classes that are called, raised as they are, or chosen by a condition."""
    for tree in parse_modules().values():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name)) | ast.Raise(exc=ast.Name(id=name)):
                    yield name
                case ast.IfExp(body=ast.Name(id=name), orelse=ast.Name(id=other)):
                    yield from (name, other)


@cache
def read_groups() -> Mapping[str, tuple[str, str]]:
    """Reads the status code and the sentence of each reason out of the published image."""
    image = FileDescriptorSet.FromString((ROOT / "protos/quarry.v1.binpb").read_bytes())
    file = next(file for file in image.file if file.name == ERRORS)
    comments = {tuple(place.path): place for place in file.source_code_info.location}
    found, code = {}, ""
    for number, value in enumerate(file.enum_type[0].value):
        place = comments[*ENUM, VALUE, number]
        for group in place.leading_detached_comments:
            code = group.split(":")[0].strip()
        found[value.name.removeprefix("ERROR_REASON_")] = (code, place.leading_comments.strip())
    assert found.pop("UNSPECIFIED") == ("", "")
    return found


def test_every_reason_is_in_the_enum_and_the_enum_holds_no_other() -> None:
    assert set(find_error_classes()) == REASONS
    assert set(read_groups()) == REASONS


def test_every_reason_is_raised_somewhere() -> None:
    assert {kind.__name__ for kind in find_error_classes().values()} <= set(find_raised())


def test_no_error_gets_a_reason_that_the_enum_lacks_after_it_is_made() -> None:
    for module, tree in parse_modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith(".reason"):
                value = node.value
                assert not isinstance(value, ast.Constant) or value.value in REASONS, module


def test_every_reason_has_a_sentence() -> None:
    for reason, (_, sentence) in read_groups().items():
        assert sentence[:1].isupper() and sentence.endswith("."), reason


def test_every_reason_belongs_to_the_status_code_of_its_group() -> None:
    """A client that knows no reason acts on the code: a reason never comes with another one."""
    codes = {reason: choose_status_code(_make(kind)).name for reason, kind in find_error_classes().items()}
    assert codes == {reason: code for reason, (code, _) in read_groups().items()}


def _make(kind: type[QuarryError]) -> QuarryError:
    error = kind.__new__(kind)
    Exception.__init__(error, "is wrong")
    return error


@pytest.mark.parametrize("kind", WRONG_REQUESTS)
def test_the_reason_outlives_another_path_and_a_job(kind: type[InvalidArgumentError]) -> None:
    moved = kind("field", "is wrong").move_under("filter.range").move_to("filter.range.gt")
    assert (moved.field, moved.reason) == ("filter.range.gt", kind.reason)
    from_job = load_error(dump_error(moved))
    assert isinstance(from_job, InvalidArgumentError)
    assert (from_job.field, from_job.problem, from_job.reason) == ("filter.range.gt", "is wrong", kind.reason)
    assert from_job.move_under("job").reason == kind.reason


@pytest.mark.parametrize("kind", WRONG_REQUESTS)
def test_a_client_gets_reason_code_and_path_of_a_wrong_field(kind: type[InvalidArgumentError]) -> None:
    error = read_status(make_status(kind("filter.range.gt", "is wrong")))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, kind.reason)
    assert (error.field, error.metadata) == ("filter.range.gt", {"field": "filter.range.gt"})
    assert error.violations == {"filter.range.gt": "is wrong"}
    assert str(error).startswith("INVALID_ARGUMENT")
    assert kind.reason in str(error)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not InvalidArgumentError])
def test_an_error_is_the_same_after_a_turn_of_the_loop_got_it_from_its_server(
    kind: type[QuarryError],
) -> None:
    error = kind("is wrong", name="a")
    told = to_domain_error(read_status(make_status(error)))
    assert (choose_status_code(told), told.reason, str(told)) == (
        choose_status_code(error),
        error.reason,
        str(error),
    )


def test_a_reason_that_is_not_published_does_not_leave_the_server() -> None:
    for unpublished in ("", "CLIENT_CLOSED"):
        error = QuarryError("is wrong")
        error.reason = unpublished
        info = error_details_pb2.ErrorInfo()
        assert make_status(error).details[0].Unpack(info)
        assert info.reason == "INTERNAL"


def test_the_command_line_has_hints_for_reasons_that_exist() -> None:
    own = {"STREAM_STALLED"}  # the client's
    assert set(HINTS) - own <= REASONS
