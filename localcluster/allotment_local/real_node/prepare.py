"""Makes everything that real nodes need, once: programs from Go modules, images from packages.

`python -m allotment_local.real_node.prepare [IMAGE…]` does beforehand what the first `allot local up --node` would do,
so that a CI machine, or somebody about to lose the network, has it. All of it lies in the user's cache folder.
"""

import argparse
import os
import sys
import time

from allotment_local.errors import ExitCode, LocalClusterError
from allotment_local.layout import Layout
from allotment_local.progress import Progress, reporter
from allotment_local.real_node import requirements, supplies
from allotment_local.real_node.fleet import node_images
from allotment_local.real_node.images.cache import ImageCache
from allotment_local.real_node.images.recipes import RECIPES, chosen


def prepare(names: list[str], *, layout: Layout, progress: Progress) -> None:
    """Build the programs and make some images.

    Args:
        names: short names of images; none means all.
        layout: where the cache is.
        progress: told about everything slow.

    Raises:
        LocalClusterError: the machine lacks something, or something could not be fetched or built.
    """
    requirements.check({**requirements.RUN_PACKAGES, **requirements.IMAGE_PACKAGES})
    built = supplies.gather(chosen(names), layout=layout, progress=progress, environment=os.environ)
    cache = ImageCache(layout, progress)
    for recipe in node_images(built):
        cache.image(recipe)


def main(arguments: list[str] | None = None) -> int:
    """Prepare what the command line names; the module's entry point."""
    parser = argparse.ArgumentParser(description="Make the programs and images of real nodes beforehand.")
    # No `choices`: before Python 3.12 they would refuse the empty list.
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"one of {', '.join(RECIPES)}; default all")
    names = parser.parse_args(arguments).images
    started = time.monotonic()
    try:
        with reporter() as progress:
            prepare(names, layout=Layout.from_environment(), progress=progress)
            progress.say(f"Everything for real nodes is there ({time.monotonic() - started:.0f} s).")
    except LocalClusterError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
