"""The program that ``server_process.py`` starts: ``quarry``, killed on Linux when what started it ends."""

import sys

from quarry.lifetime import die_with
from quarry_cli.main import run

if __name__ == "__main__":
    die_with(int(sys.argv.pop(1)))
    run()
