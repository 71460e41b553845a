"""Generates `core/quarry/v1` and descriptor images from `protos/`.

python tools/protos.py generate [OUT]   modules and type stubs, by default into core/
python tools/protos.py image FILE       a descriptor image with comments, for buf
"""

import importlib.resources
import shutil
import sys
import tempfile
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = sorted((ROOT / "protos/quarry/v1").glob("*.proto"))


def google_protos(into: Path) -> None:
    """Puts the Google protos that ours import where protoc finds them.

    googleapis-common-protos ships ``operations.proto`` under another file name than the one its
    own generated module registers, so it is renamed back.
    """
    google = Path(status_pb2.__file__).parent.parent
    for source, name in [
        ("rpc/status.proto", "rpc/status.proto"),
        ("longrunning/operations_proto.proto", "longrunning/operations.proto"),
        ("api/annotations.proto", "api/annotations.proto"),
        ("api/http.proto", "api/http.proto"),
        ("api/client.proto", "api/client.proto"),
        ("api/launch_stage.proto", "api/launch_stage.proto"),
        ("api/field_behavior.proto", "api/field_behavior.proto"),
        ("api/field_info.proto", "api/field_info.proto"),
    ]:
        target = into / "google" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(google / source, target)


def run_protoc(*outputs: str) -> None:
    well_known = str(importlib.resources.files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory() as imports:
        google_protos(Path(imports))
        include = [f"-I{ROOT / 'protos'}", f"-I{imports}", f"-I{well_known}"]
        status = protoc.main(["protoc", *include, *outputs, *map(str, PROTOS)])
    if status:
        sys.exit(status)


def generate(out: Path) -> None:
    package = out / "quarry/v1"
    package.mkdir(parents=True, exist_ok=True)
    for old in package.glob("*_pb2*"):
        old.unlink()
    run_protoc(
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
    )


def main() -> None:
    match sys.argv[1:]:
        case ["generate"]:
            generate(ROOT / "core")
        case ["generate", out]:
            generate(Path(out))
        case ["image", file]:
            run_protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={file}")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
