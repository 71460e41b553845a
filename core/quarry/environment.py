"""Environment variables that keep libraries from calling out, and from writing where nobody expects it.

Libraries read them when they are imported, ONNX Runtime in native code. So ``import quarry`` forbids
telemetry before it does anything else, and every package of Quarry imports ``quarry`` first.
"""

import os
import shutil
import tempfile
from pathlib import Path

NO_TELEMETRY = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
_OFFLINE = {"HF_HUB_OFFLINE": "1"}
CACHE, TEMPORARY = "cache", ".quarry-tmp"
_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "torch-inductor",
    "TRITON_HOME": "triton",
    "CUDA_CACHE_PATH": "cuda",
}
"""Where libraries keep what they can make again: variable, and its folder below the data folder's cache."""


def forbid_telemetry() -> None:
    """Keeps libraries from reporting to their makers, also in processes that are started later."""
    os.environ.update(NO_TELEMETRY)


def forbid_hub() -> None:
    """Keeps Hugging Face's libraries off the network, also in processes that are started later."""
    os.environ.update(_OFFLINE)


def allow_hub(home: Path) -> None:
    """Lets this process reach the Hugging Face hub. Call it before ``huggingface_hub`` is imported.

    Args:
        home: folder for the library's own files.
    """
    for name in _OFFLINE:
        os.environ.pop(name, None)
    os.environ |= {"HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def keep_files_in(data: Path) -> None:
    """Sends caches and temporary files of this process, and of those it starts, below the data folder.

    The folder for temporary files is there once ``remove_temporary_files`` has run.
    """
    folder = data.resolve()
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / TEMPORARY)
    os.environ.update({name: str(folder / CACHE / below) for name, below in _CACHES.items()})


def remove_temporary_files(data: Path) -> None:
    """Removes what processes of an earlier server have left. Call it while the data folder is locked.

    Its name is Quarry's own, and it is no link: nothing that somebody else has put somewhere is removed.
    """
    folder = data / TEMPORARY
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
