"""Every name under our group that the code speaks is in the one table."""

import re
from pathlib import Path

from allotment_api.labels import GROUP, NAMES

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("crds", "kube", "operator", "scheduler", "localcluster", "cli", "simulations", "helm", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".yaml", ".tpl"} and "crds/" not in str(path.relative_to(ROOT / folder))
]


def test_every_name_that_is_spoken_is_explained() -> None:
    known = {each.name for each in NAMES}
    families = tuple(name.partition("{")[0] for name in known if "{" in name)
    spoken = {
        (name, str(path.relative_to(ROOT)))
        for path in SOURCES
        for name in re.findall(rf"{re.escape(GROUP)}/[a-z][a-z0-9-]*", path.read_text())
        if not re.fullmatch(rf"{re.escape(GROUP)}/v[0-9a-z]+", name)
    }

    assert {each for each in spoken if each[0] not in known and not each[0].startswith(families)} == set()
