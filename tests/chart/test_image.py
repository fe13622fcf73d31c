"""The image's recipe agrees with the chart and with the repository; building it takes a container engine."""

import re
import tomllib
from pathlib import Path

import yaml

from builders.helm_chart import CHART, of_kind, render

REPOSITORY = CHART.parents[1]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
FINAL_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]


def test_every_copied_path_is_there() -> None:
    sources = [
        source
        for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", DOCKERFILE)
        for source in line.split()[:-1]
    ]  # fmt: skip

    assert sources
    assert [source for source in sources if not (REPOSITORY / source).exists()] == []


def test_everything_the_wheel_is_made_of_is_copied() -> None:
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {Path(path).parts[0] for path in (*wheel["packages"], *wheel["force-include"])}

    assert [folder for folder in sorted(needed) if f"COPY {folder} {folder}" not in DOCKERFILE] == []


def test_it_runs_as_the_charts_user_and_never_as_root() -> None:
    [user] = re.findall(r"(?m)^USER (\d+):(\d+)$", FINAL_STAGE)
    contexts = [it["spec"]["template"]["spec"]["securityContext"] for it in of_kind(render(), "Deployment")]

    assert {(str(context["runAsUser"]), str(context["runAsGroup"])) for context in contexts} == {user}
    assert user[0] != "0"


def test_nothing_beside_the_installed_packages_can_be_imported() -> None:
    assert "PYTHONSAFEPATH=1" in FINAL_STAGE


def test_the_kind_cluster_is_new_enough_for_the_chart() -> None:
    nodes = yaml.safe_load((REPOSITORY / "kind-config.yaml").read_text())["nodes"]
    minimum = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]

    assert minimum == ">=1.36.0-0"
    assert all(re.search(r":v1\.(3[6-9]|[4-9]\d)\.", node["image"]) for node in nodes)
