"""The pages for people: their links lead somewhere, their tables are whole, their manifests do what they say."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic.alias_generators import to_camel

from allotment_api.tenant import Tenant
from allotment_kube.program.settings import ProgramSettings
from allotment_operator.metrics import PREFIX as OPERATOR_PREFIX
from allotment_operator.metrics import Metrics as OperatorMetrics
from allotment_operator.settings import Settings as OperatorSettings
from allotment_operator.tenancy import grants
from allotment_scheduler.shell.metrics import PREFIX as SCHEDULER_PREFIX
from allotment_scheduler.shell.metrics import Metrics as SchedulerMetrics
from allotment_scheduler.shell.settings import Settings as SchedulerSettings

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What its headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    found: set[Path] = set()
    open_ = [ROOT / "README.md"]
    while open_:
        page = open_.pop()
        if page in found:
            continue
        found.add(page)
        for link in LINK.findall(page.read_text()):
            target = (page.parent / link.partition("#")[0]).resolve()
            if "://" not in link and target.suffix == ".md" and target.exists():
                open_.append(target)

    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in found and page.parent != ROOT] == []


def rows(page: str, section: str) -> dict[str, list[str]]:
    """A section's table: what its first column names in code, and the other columns."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = {}
    for line in re.findall(r"^\| (`.*)\|$", text, re.MULTILINE):
        first, *others = (cell.strip() for cell in line.split("|"))
        for name in re.findall(r"`([^`]+)`", first):
            found[name.partition("{")[0]] = others
    return found


@pytest.mark.parametrize(
    ("page", "settings"), [("operations.md", SchedulerSettings), ("operator.md", OperatorSettings)]
)
def test_every_setting_is_told_with_its_default(page: str, settings: type[ProgramSettings]) -> None:
    told = rows(page, "Settings")
    written = {to_camel(name): str(field.default) for name, field in settings.model_fields.items()}

    assert {name for name in written if name not in told} == set()
    plain = {name: default for name, default in written.items() if default not in {"", "None", "allotment-system"}}
    wrong = {
        name: told[name][0]
        for name, default in plain.items()
        if re.sub(r"^(\d+)\.0$", r"\1", default.lower()) not in told[name][0].split(", ")
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("page", "metrics", "prefix"),
    [
        ("operations.md", SchedulerMetrics(), SCHEDULER_PREFIX),
        ("operator.md", OperatorMetrics(), OPERATOR_PREFIX),
    ],
    ids=["scheduler", "operator"],
)
def test_every_metric_is_told(page: str, metrics: SchedulerMetrics | OperatorMetrics, prefix: str) -> None:
    told = rows(page, "Metrics")

    assert {name.removeprefix(prefix) for name in metrics.names()} == told.keys()


def test_the_tenants_of_the_first_example_get_what_they_ask_for() -> None:
    text = (ROOT / "docs" / "tenants.md").read_text()
    example = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    above, leaf = (Tenant.parse(manifest) for manifest in yaml.safe_load_all(example))

    assert leaf.spec.parent == above.metadata.name
    assert grants.overreach([leaf, above]) == ""
    assert grants.network([leaf, above]) == leaf.spec.policy.network
