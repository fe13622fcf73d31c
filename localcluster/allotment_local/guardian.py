"""Takes a cluster down when the program that started it has ended, however it ended.

Its standard input is a pipe that only that program holds open. The kernel closes it at the program's end, kill -9
included; reading it returns, and the cluster goes down. Tests start theirs so: an interrupted run leaves nothing.
"""

import sys
from dataclasses import replace
from pathlib import Path

from allotment_local.cluster import LocalCluster
from allotment_local.layout import Layout


def main() -> None:
    """Wait for the end of standard input, then take down the cluster named on the command line."""
    state, name = Path(sys.argv[1]), sys.argv[2]
    sys.stdin.buffer.read()
    LocalCluster(name, layout=replace(Layout.from_environment(), state=state)).down()


if __name__ == "__main__":
    main()
