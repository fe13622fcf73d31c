"""The commands on the pages: options and kinds that exist, and a dump of the cluster that has all that is read."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import typer.exceptions

from allotment_api.labels import CATEGORY
from allotment_api.registry import KINDS
from allotment_cli.main import GROUPS, load
from allotment_scheduler.manifests.kinds import GROUPS as READ

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "examples").glob("*.md"),
]
VAGUE = re.compile(r"[\[\]|…]")
"""What a command that shows its form has, and one that can be typed has not."""
BUILT_IN = {
    "pod", "pods", "node", "nodes", "namespace", "namespaces", "secret", "secrets", "lease", "jobs", "sts", "deploy",
    "cronjobs", "deployment", "pdb", "networkpolicies", "resourcequota", "priorityclasses", "poddisruptionbudgets",
    "persistentvolumeclaims", "persistentvolumes", "storageclasses", "csinodes", "resourceclaims",
    "resourceclaimtemplates", "resourceslices", "deviceclasses", "validatingadmissionpolicy", "service",
}  # fmt: skip
"""Kubernetes' own kinds, as pages call them."""
WITH_VALUE = {"-n", "-o", "-l", "-f", "-c", "--namespace", "--kubeconfig"}
VERBS = {"get", "wait", "describe", "delete", "scale", "explain"}


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Every command of a program, in a block or within a line, with its page."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", "")
        found = re.findall(rf"^(?:\$ )?(?:\.venv/bin/)?({program} .*)$", text, re.MULTILINE)
        found += re.findall(rf"`({program} [^`\n]*)`", text)
        for line in found:
            if not VAGUE.search(line):
                lexer = shlex.shlex(line, posix=True, punctuation_chars="<>&;")
                lexer.whitespace_split = True
                words = list(lexer)
                end = next((number for number, word in enumerate(words) if set(word) <= set("<>&;")), len(words))
                yield page.name, words[1:end]


def test_every_command_of_allot_has_the_options_that_a_page_gives_it() -> None:
    given = {tuple(words): page for page, words in commands("allot") if words != ["--help"]}

    assert len(given) > 30
    assert {words: (page, wrong) for words, page in given.items() if (wrong := _misused(words))} == {}


def _misused(words: tuple[str, ...]) -> str:
    """What is wrong with a command; nothing of it is carried out. An option may be named without its value."""
    name, *rest = words
    if name not in GROUPS:
        return "no such command"
    command = load(name)
    if name == "local" and rest:
        command, rest = command.commands.get(rest[0]), rest[1:]
    if command is None:
        return "no such command"
    try:
        command.make_parser(command.context_class(command)).parse_args([*rest])
    except typer.exceptions.TyperException as error:
        return "" if "requires an argument" in str(error) else str(error)
    return ""


def test_every_kind_that_a_page_asks_kubectl_for_exists() -> None:
    names = [each.definition for each in KINDS.values()]
    ours = {name for each in names for name in (each.plural, each.singular, *each.short_names)}
    known = BUILT_IN | ours | {CATEGORY}
    asked = [(page, kind) for page, words in commands("kubectl") for kind in _kinds(words) if not kind.isupper()]

    assert len(asked) > 30
    assert [(page, kind) for page, kind in asked if kind not in known] == []


def _kinds(words: list[str]) -> list[str]:
    """What a command is about."""
    verb = next((number for number, word in enumerate(words) if word in VERBS), len(words))
    rest = iter(words[verb + 1 :])
    for word in rest:
        if word in WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-") and word not in VERBS:
            return [re.split(r"[/.]", kind)[0] for kind in word.split(",")]
    return []


def test_the_dump_of_a_cluster_has_every_kind_that_is_read_but_those_whose_pods_are_in_it_anyway() -> None:
    text = (ROOT / "docs" / "scheduling.md").read_text().replace("\\\n", "")
    dumped = text.partition("kubectl get -A -o json ")[2].split()[0].split(",")
    read = {_plural(kind) for kind, groups in READ.items() if "apps" not in groups} - {"replicationcontrollers"}

    assert {name.partition(".")[0] for name in dumped} == read


def _plural(kind: str) -> str:
    name = kind.lower()
    return f"{name}es" if name.endswith("ss") else f"{name}s"
