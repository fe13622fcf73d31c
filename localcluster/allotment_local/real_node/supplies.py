"""What real nodes are made of, made side by side: programs by the Go compiler, images from packages.

The compiler wants processors, images mostly wait for downloads and for programs with a single thread: together they
take little longer than the compiler alone.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from allotment_local.layout import Layout
from allotment_local.progress import Progress
from allotment_local.real_node import programs
from allotment_local.real_node.images.cache import ImageCache
from allotment_local.real_node.images.recipes import Recipe
from allotment_local.real_node.programs import NodePrograms


class _Aside:
    """Progress of what goes on beside the main thing: its steps are told once, the bar is not theirs."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, message: str) -> None:
        """Tell something."""
        self._progress.say(message)

    def step(self, what: str, done: int = 0, total: int = 0) -> None:
        """Tell the beginning of a step."""
        if done in (0, total):
            self._progress.say(what)


def gather(
    recipes: Sequence[Recipe], *, layout: Layout, progress: Progress, environment: Mapping[str, str]
) -> NodePrograms:
    """Build the programs and make images of packages, as far as they are not there yet.

    Args:
        recipes: images that need none of the programs.
        layout: where the cache is.
        progress: told about everything slow.
        environment: see `programs.ensure`.

    Raises:
        LocalClusterError: something could not be fetched or built.
    """
    cache = ImageCache(layout, _Aside(progress))
    with ThreadPoolExecutor(1, thread_name_prefix="images") as beside:
        making = beside.submit(lambda: [cache.image(recipe) for recipe in recipes])
        built = programs.ensure(layout=layout, progress=progress, environment=environment)
        making.result()
    return built
