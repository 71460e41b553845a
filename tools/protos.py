"""Generates code and descriptor images from `protos/`.

python tools/protos.py generate [OUT]   the Python modules and type stubs, by default into core/
python tools/protos.py image FILE       a descriptor image with comments and all that it imports
python tools/protos.py languages OUT    code of each language that protoc knows by itself
"""

import importlib.resources
import shutil
import subprocess
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = sorted((ROOT / "protos/quarry/v1").glob("*.proto"))
INCLUDES = [f"-I{ROOT / 'protos'}", f"-I{ROOT / 'protos/third_party'}"]
LANGUAGES = ("cpp", "csharp", "java", "kotlin", "objc", "php", "python", "ruby")


def run_protoc(*outputs: str) -> None:
    """Runs the protoc of grpcio-tools, which generates Python alone."""
    well_known = str(importlib.resources.files("grpc_tools") / "_proto")
    status = protoc.main(["protoc", *INCLUDES, f"-I{well_known}", *outputs, *map(str, PROTOS)])
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


def generate_languages(out: Path) -> None:
    """Generates each of LANGUAGES as a stranger would, and ends with an error if protoc as much as warns."""
    compiler = shutil.which("protoc")
    if compiler is None:
        sys.exit("protoc is not installed: `make setup` installs it")
    for language in LANGUAGES:
        folder = out / language
        folder.mkdir(parents=True, exist_ok=True)
        command = [compiler, *INCLUDES, f"--{language}_out={folder}", *map(str, PROTOS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            sys.exit(f"{language}: protoc ended with {done.returncode}\n{done.stderr}")


def main() -> None:
    match sys.argv[1:]:
        case ["generate"]:
            generate(ROOT / "core")
        case ["generate", out]:
            generate(Path(out))
        case ["image", file]:
            run_protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={file}")
        case ["languages", out]:
            generate_languages(Path(out))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
