"""What the offline commands print for programs is what the reference lists, and their exit codes tell what happened."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from allotment_cli.main import app
from builders.outputs import flat, output_of, unlisted

CLUSTER = """
{apiVersion: v1, kind: Node, metadata: {name: n}, status: {allocatable: {cpu: "4", pods: "20"}}}
---
{apiVersion: v1, kind: Node, metadata: {name: m}, status: {allocatable: {cpu: "1", pods: "20"}}}
---
apiVersion: allotment.dev/v1alpha1
kind: Tenant
metadata: {name: top}
spec: {limits: {cpu: "100"}, guaranteed: {cpu: 1}}
---
{apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: a}, spec: {namespaces: [a], parent: top}}
---
{apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: b}, spec: {namespaces: [b], weight: 0.5}}
"""
RUNNING = "".join(
    f"""---
apiVersion: v1
kind: Pod
metadata:
  name: r{number}
  namespace: b
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-5f, uid: u, controller: true}}]
spec: {{nodeName: n, containers: [{{name: c, resources: {{requests: {{cpu: 1}}}}}}]}}
"""
    for number in range(4)
)
JOB = """---
apiVersion: batch/v1
kind: Job
metadata: {name: NAME, namespace: a}
spec: {parallelism: 3, completions: 3, template: {spec: {restartPolicy: Never, containers: [
  {name: c, resources: {requests: {cpu: CPU}}}]}}}
"""


def job(name: str, cpu: str) -> str:
    return JOB.replace("NAME", name).replace("CPU", cpu)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "ground.yaml").write_text(CLUSTER + RUNNING)
    (tmp_path / "cluster" / "jobs.yml").write_text(job("a", "1") + job("a-b", "2"))
    (tmp_path / "one.yaml").write_text(job("new", "0"))
    (tmp_path / "never.yaml").write_text(job("huge", "100"))
    return tmp_path


def run(*words: str | Path, stdin: str | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    return done.exit_code, done.stdout, done.stderr


COMMANDS: list[list[str]] = [
    ["simulate"], ["tenants"], ["why", "a-b"], ["what-if", "--add", "one.yaml", "--add", "never.yaml", "--drain", "n"],
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda it: str(it[0]))
def test_json_has_the_fields_of_the_reference_and_no_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(folder)
    _, stdout, _ = run(*words, "-f", "cluster", "-o", "json")
    output, answer = output_of(words[0]), json.loads(stdout)
    listed = {each.path for each in output.fields}

    assert unlisted(answer, output) == []
    assert listed - {path for path, _ in flat(answer)} <= {path for path in listed if path.startswith("moves[]")}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--add", "one.yaml"], 0, ""),
        (["--add", "never.yaml"], 2, ""),
        (["--drain", "n"], 1, ""),
        (["--drain", "ghost"], 3, "no such node"),
        (["--add", "cluster/jobs.yml"], 3, "is in the files already: give it as a change"),
        (["--add", "-", "--change", "-"], 3, "standard input can be read only once"),
        (["--add", "lost.yaml"], 3, "lost.yaml: cannot be read"),
        ([], 3, "say what would change"),
        (["--nonsense"], 3, "No such option"),
    ],
)
def test_what_if_ends_with_what_it_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(folder)
    found, _, stderr = run("what-if", "-f", "cluster", *words)

    assert found == code
    assert said in stderr


def test_a_change_may_come_by_standard_input(folder: Path) -> None:
    tenant = (
        "{apiVersion: allotment.dev/v1alpha1, kind: Tenant, metadata: {name: b}, spec: {namespaces: [b], weight: 5}}"
    )
    code, stdout, _ = run("what-if", "-f", folder / "cluster", "--change", "-", "-o", "yaml", stdin=tenant)

    assert code in (0, 1)
    assert set(yaml.safe_load(stdout)) == {"starts", "moves", "displaced", "waits"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: v1\nkind: Pdo\nmetadata: {name: x}", "the kind Pdo of v1 is not known"),
        ("apiVersion: allotment.dev/v1alpha1\nkind: KafkaCluster\nmetadata: {name: k}", "the operator makes its pods"),
        ("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: d}", "one pod for each node"),
    ],
)
def test_nobody_is_told_that_what_is_not_read_starts(folder: Path, text: str, said: str) -> None:
    (folder / "more.yaml").write_text(text)
    code, _, stderr = run("what-if", "-f", folder / "cluster", "--add", folder / "more.yaml")

    assert code == 3
    assert said in stderr


@pytest.mark.parametrize(
    ("name", "want"), [("a", {"a-0", "a-1", "a-2"}), ("a/a-b", {"a-b-0", "a-b-1", "a-b-2"}), ("web-5f", {"r0"})]
)
def test_why_takes_a_workloads_name_for_its_own_pods(folder: Path, name: str, want: set[str]) -> None:
    _, stdout, _ = run("why", name, "-f", folder / "cluster", "-o", "json")

    assert want <= {row["pod"] for row in json.loads(stdout)}
    assert len({row["pod"].rpartition("-")[0] for row in json.loads(stdout)}) == 1


@pytest.mark.parametrize("command", ["simulate", "tenants"])
def test_the_schedulers_settings_are_taken(folder: Path, command: str) -> None:
    config = folder / "scheduler.yaml"
    config.write_text("sharePolicy: hdrf\nbackoffSeconds: 5\n")
    right, _, _ = run(command, "-f", folder / "cluster", "--config", config, "-o", "json")
    config.write_text("sharePolicy: fair\n")
    wrong, _, stderr = run(command, "-f", folder / "cluster", "--config", config, "-o", "json")

    assert (right, wrong) == (0, 2)
    assert "sharePolicy" in stderr


COMMANDS_OF_FILES: list[list[str]] = [["simulate"], ["tenants"], ["why", "p"], ["what-if", "--drain", "n"]]


@pytest.mark.parametrize("command", COMMANDS_OF_FILES, ids=lambda it: str(it[0]))
def test_an_estate_of_nothing_is_a_mistake(command: list[str]) -> None:
    code, stdout, stderr = run(*command, "-f", "-", stdin="# nothing\n")

    assert (code, stdout) == (3 if command[0] == "what-if" else 2, "")
    assert "standard input: holds no object" in stderr


def test_a_namespace_is_not_passed_over_in_silence(folder: Path) -> None:
    code, _, stderr = run("tenants", "-f", folder / "cluster", "-n", "a")

    assert code == 2
    assert "leave it out with --file" in stderr
