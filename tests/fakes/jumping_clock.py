"""Runs a program whose wall clock is as far ahead of the machine's as a file says: eight bytes, a float of seconds.

`python -P jumping_clock.py FILE MODULE ARGUMENTS…`. The file is read with every look at the clock, so that it may jump
while the program runs. What follows `time.time` jumps; the monotonic clock does not, nor would it on a real machine.
"""

import runpy
import struct
import sys
import time
from pathlib import Path


def main() -> None:
    """Replace the clock before the program is loaded, and become the program."""
    _, ahead, module, *arguments = sys.argv
    offset, real = Path(ahead), time.time

    def jumping() -> float:
        return real() + float(struct.unpack("d", offset.read_bytes())[0])

    time.time = jumping
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
