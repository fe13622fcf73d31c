"""Dashboard and alerts: whole, and of metrics that the programs really have."""

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml

from allotment_operator.metrics import Metrics as OperatorMetrics
from allotment_scheduler.shell.metrics import PREFIX, Metrics
from builders.helm_chart import CHART, named, of_kind, render

DASHBOARDS = CHART / "dashboards"
ON = {"metrics.dashboard": True, "metrics.rules": True, "metrics.rulesLabels": {"release": "prometheus"}}
METRIC = re.compile(r"\ballotment_[a-z0-9_]+")
SERIES = re.compile(r"_(bucket|count|sum)$")


def expressions() -> dict[str, str]:
    """Every query of the dashboard and of the alerts, by where it stands."""
    dashboard = json.loads((DASHBOARDS / "allotment.json").read_text())
    rules = yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())
    found = {
        f"{panel['title']} {each['refId']}": each["expr"] for panel in dashboard["panels"] for each in panel["targets"]
    }
    found |= {each["name"]: each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"}
    return found | {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}


def test_every_metric_in_dashboard_and_alerts_exists() -> None:
    known = Metrics().names() | OperatorMetrics().names()
    queried = {
        where: {SERIES.sub("", name) for name in METRIC.findall(query)} for where, query in expressions().items()
    }

    assert {where: sorted(names - known) for where, names in queried.items() if names - known} == {}
    assert [where for where, names in queried.items() if not names] == []


def test_every_metric_of_the_scheduler_is_written_about() -> None:
    page = (CHART.parents[1] / "docs" / "operations.md").read_text()
    table = page.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    written = {PREFIX + name for name in re.findall(r"`([a-z_]+)(?:\{[^}`]*\})?`", table)}

    assert Metrics().names() - written == set()


def test_whatever_stands_for_a_defect_has_a_panel() -> None:
    shown = " ".join(expressions().values())

    for name in ("faults_total", "starts_forgotten_total", "watch_undecodable"):
        assert any(PREFIX + name in query for where, query in expressions().items() if " " in where), shown


GRAFANA = {"$__rate_interval": "5m", "${resource}": "cpu", "$resource": "cpu"}


@pytest.mark.parametrize(("where", "query"), [*expressions().items()], ids=[*expressions()])
def test_every_query_is_one_that_prometheus_reads(where: str, query: str) -> None:
    for variable, value in GRAFANA.items():
        query = query.replace(variable, value)
    if query.startswith("label_values("):
        query = query.removeprefix("label_values(").partition(",")[0]

    assert promql_parser.parse(query) is not None, where


def test_every_rule_is_one_that_prometheus_loads() -> None:
    groups = yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())["groups"]
    names = [rule["alert"] for group in groups for rule in group["rules"]]

    assert len(set(names)) == len(names)
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert promql_parser.parse_duration(rule["for"]).total_seconds() >= 60
        labels = set(re.findall(r"\$labels\.([a-z]+)", str(rule["annotations"])))
        kept = set(re.findall(r"\bby \(([a-z]+)\)", rule["expr"]))
        assert labels <= kept, f"{rule['alert']} speaks of labels that its query does not keep"


def test_what_is_written_about_every_alert_can_be_found() -> None:
    pages = [(CHART.parents[1] / "docs" / name).read_text() for name in ("operations.md", "operator.md")]
    alerts = [
        rule for group in yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]

    assert [rule["alert"] for rule in alerts if not any(f"`{rule['alert']}`" in page for page in pages)] == []
    for rule in alerts:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_dashboard_and_alerts_arrive_whole() -> None:
    objects: list[dict[str, Any]] = render(ON)
    dashboard = named(objects, "ConfigMap", "allotment-dashboard")
    rule = named(objects, "PrometheusRule", "allotment")

    assert json.loads(dashboard["data"]["allotment.json"]) == json.loads((DASHBOARDS / "allotment.json").read_text())
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert rule["spec"] == yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_neither_is_there_unless_asked_for() -> None:
    assert not [it for it in of_kind(render(), "PrometheusRule", "ConfigMap") if "monitoring" in str(it["metadata"])]
