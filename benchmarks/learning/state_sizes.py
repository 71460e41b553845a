"""What is kept of a passage, in bytes, against what it costs in quality: docs/explanation/benchmarks.md.

A split cross-encoder is trained and measured with its passage states as they are (float16), in int8, and with
every 2, 4 or 8 tokens pooled into their mean (after PreTTR, SIGIR 2020); late interaction with its vectors
beside it. All are trained on the same set, mined from SIMULATED clicks by flywheel.py, whose data are
needed. One JSON line a form.

    python benchmarks/learning/state_sizes.py --data build/flywheel --set "stackfaq, known"
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from flywheel import Bench, line
from flywheel_arms import ARMS, Arm
from judged_sets import SETS
from shared_trainings import SharedStates
from torch import Tensor, nn

from quarry.models.caches.state_forms import ByteStates
from quarry_cli.connection import connect
from quarry_cli.server_process import run_server
from quarry_trainer.learning.trainable_forms import Form, SplitForm

TOKENS, WIDTH = 128, 384
LATE_BYTES = 9_256
"""As measured by split_serving.py."""
Change = Callable[[Tensor], Tensor]


def pool(states: Tensor, tokens: int) -> Tensor:
    """Means of so many rows each, the last of what is left over."""
    rows = nn.functional.pad(states.float(), (0, 0, 0, -len(states) % tokens))
    counts = torch.full((len(rows) // tokens, 1), float(tokens))
    counts[-1] = tokens - (len(rows) - len(states))
    return (rows.view(-1, tokens, states.shape[1]).sum(dim=1) / counts).half()


def round_to_bytes(states: Tensor) -> Tensor:
    """As int8 keeps them."""
    form = ByteStates()
    return torch.from_numpy(np.array(form.read(form.keep(states.float().numpy())))).half()


CHANGES: dict[str, tuple[Change, int]] = {
    "float16": (lambda states: states, TOKENS * WIDTH * 2),
    "int8": (round_to_bytes, TOKENS * (WIDTH + 4)),
    "pooled by 2, int8": (lambda states: round_to_bytes(pool(states, 2)), TOKENS // 2 * (WIDTH + 4)),
    "pooled by 4, int8": (lambda states: round_to_bytes(pool(states, 4)), TOKENS // 4 * (WIDTH + 4)),
    "pooled by 8, int8": (lambda states: round_to_bytes(pool(states, 8)), TOKENS // 8 * (WIDTH + 4)),
}


def change_passages(form: Form, change: Change) -> None:
    """Lets ``form`` read passages as they would be kept."""
    if isinstance(form, SplitForm):
        whole = form.states.read_passages
        form.states.read_passages = lambda texts: {  # type: ignore[method-assign]
            text: change(states) for text, states in whole(texts).items()
        }


def measure(bench: Bench, name: str, arm: Arm, kept: int) -> dict[str, object]:
    found = line(bench, "quarry", arm, 0, 200)
    shown = {key: found.get(key) for key in ("values", "means", "verdict", "blend", "refused", "cpu_seconds")}
    return {"benchmark": "state_sizes", "set": bench.name, "form": name, "bytes": kept, **shown}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that flywheel.py has filled")
    parser.add_argument("--set", choices=SETS, default="stackfaq, known")
    options = parser.parse_args()
    work = options.data / options.set.replace(",", "").replace(" ", "-")
    with run_server(work) as address, connect(address, 600.0) as quarry:
        bench = Bench(options.set, quarry, address, work, Path())
        bench.prepare()
        print(json.dumps(measure(bench, "late interaction", ARMS["quarry"], LATE_BYTES)), flush=True)
        for name, (change, kept) in CHANGES.items():
            bench.states = SharedStates(partial(change_passages, change=change))
            found = measure(bench, f"split, {name}", ARMS["quarry, split"], kept)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
