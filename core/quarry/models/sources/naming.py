"""The models that a client of the server may name."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from quarry.errors import FailedPreconditionError
from quarry.models.sources.resolve import find_packaged, is_hub_id, resembles_path


class ModelNotAllowedError(FailedPreconditionError):
    """A request names a model that it may not name. It says the same whether there is such a model or not."""

    reason = "MODEL_NOT_ALLOWED"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"requests may not name the model {name[:80]!r}: it is neither in the server's settings, nor an "
            "installed package with weights, nor in a folder of its setting models.folders, nor an id of the "
            "Hugging Face hub while its setting models.hub is on",
            model=name[:80],
            settings="models.folders, models.hub",
        )


class AllowedModels:
    """The models that requests may name beside registered versions.

    The operator's own names, in the configuration or in the database, are not held to this.

    Args:
        configured: names in the server's settings.
        folders: whose models requests may name, at any depth.
        hub: whether they may name the hub's.
    """

    def __init__(self, configured: Collection[str], folders: Sequence[Path], hub: bool) -> None:
        self._configured, self._hub = frozenset(configured), hub
        absolute = [Path(os.path.abspath(folder.expanduser())) for folder in folders]  # noqa: PTH100  links stay
        self._named = tuple({*absolute, *(folder.resolve() for folder in absolute)})
        self._real = tuple(folder.resolve() for folder in absolute)

    def is_configured(self, name: str) -> bool:
        """Tells whether the operator has named this model."""
        return name in self._configured

    def check(self, name: str) -> None:
        """Checks a name that is not configured. Looks at no file outside the allowed folders and the
        installed packages. Blocks.

        Raises:
            ModelNotAllowedError: requests may not name this model.
        """
        if resembles_path(name):
            allowed = self._is_below(name)
        else:
            allowed = is_hub_id(name) and (self._hub or find_packaged(name) is not None)
        if not allowed:
            raise ModelNotAllowedError(name)

    def _is_below(self, name: str) -> bool:
        """Tells whether the folder is allowed, as it is written and after its links have been followed."""
        if name.startswith("~") or "\0" in name:
            return False
        written = Path(os.path.abspath(name))  # noqa: PTH100  follows no link
        if not any(written.is_relative_to(folder) for folder in self._named):
            return False
        try:
            real = Path(name).resolve()
        except (OSError, RuntimeError, ValueError):  # too long, or its links go round
            return False
        return any(real.is_relative_to(folder) for folder in self._real)
