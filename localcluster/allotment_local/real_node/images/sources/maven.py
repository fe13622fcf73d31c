"""Jars from Maven Central, by Maven: artifacts with everything they need at run time."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from allotment_local.real_node.tools import run


def project(artifacts: Sequence[str]) -> str:
    """A Maven project that needs some artifacts and builds nothing.

    Args:
        artifacts: as GROUP:ARTIFACT:VERSION.
    """
    dependencies = ""
    for artifact in artifacts:
        group, name, version = map(escape, artifact.split(":"))
        dependencies += (
            f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            f"<version>{version}</version></dependency>"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>dev.allotment</groupId><artifactId>image</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def fetch(artifacts: Sequence[str], target: Path, *, repository: Path) -> None:
    """Copy the artifacts' jars and those of all they need at run time into a folder.

    Args:
        artifacts: as GROUP:ARTIFACT:VERSION.
        target: created if missing.
        repository: Maven's local repository to use and fill.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="allotment-maven-") as folder:
        pom = Path(folder, "pom.xml")
        pom.write_text(project(artifacts), encoding="utf-8")
        run(
            *("mvn", "--quiet", "--batch-mode", f"--file={pom}", f"-Dmaven.repo.local={repository}"),
            *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"),
            timeout=1800,
        )
