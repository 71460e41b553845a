"""What failing disks do to files."""

from pathlib import Path
from random import Random


def flip_bytes(path: Path, count: int = 64) -> None:
    """Changes some bytes of the second half: neither the size nor what a parser looks at first."""
    data = bytearray(path.read_bytes())
    for place in Random(1).sample(range(len(data) // 2, len(data)), count):
        data[place] ^= 0x55
    path.write_bytes(data)
