"""Guards of what the repository says: no machine's paths, no leftovers, links that lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]
TEXTS = [path for path in TRACKED if path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".go", ".sh", ""}]


def test_no_path_of_one_machine_is_written_anywhere() -> None:
    # Split, so that this file does not find itself. Agents' images have a home of their own.
    personal = re.compile(
        "/ro" + r"ot/|/ho" + r"me/(?!jenkins/)[a-z]+/|/wo" + r"rk/(?:main|shared)|/tm" + r"p/[a-z]+(?:cluster|build)/"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if personal.search(line)
    ]

    assert found == []


@pytest.mark.parametrize(
    "page", [path for path in TRACKED if path.suffix == ".md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_between_our_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert broken == []
