"""Runs a server in which a part is replaced: ``python hanging.py PART python -m MODULE ...``.

Nothing that a test can do from outside makes these parts hang at the moment that it is about.
"""

import asyncio
import runpy
import sys
from typing import Any


async def hang(*_: Any) -> None:
    await asyncio.Event().wait()


def hang_collections() -> None:
    """Their closing hangs."""
    from quarry.collections.collections import Collections

    Collections.close = hang  # type: ignore[method-assign]


def slow_models() -> None:
    """Loading the re-rankers takes two seconds, which begin with a line on stdout."""
    from quarry_server.startup import recovery

    async def load(*_: Any) -> None:
        print("loading", flush=True)
        await asyncio.sleep(2)

    recovery.load_rerankers = load


PARTS = {"collections": hang_collections, "models": slow_models}

if __name__ == "__main__":
    part, _python, _m, module, *arguments = sys.argv[1:]
    PARTS[part]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
