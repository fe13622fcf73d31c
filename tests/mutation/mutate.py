"""Mutation testing of the scheduling core: does a test notice when one operator of the policy is changed?

`make mutants` changes the core one place at a time, runs the core's tests against each mutant and prints those that
no test noticed. A survivor is either equivalent (it cannot be told apart, or it only costs time) or a missing test.

How it works: the parent loads everything but the core; each mutant is a fork that serves one module's changed source
by an import hook and runs the tests until one fails. Sources on disk are never touched. Mutants are drawn with a seed,
so that a run can be repeated.
"""

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import spec_from_loader
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np  # noqa: F401 - loaded once, before the forks
import pytest

PACKAGE: Final = "allotment_scheduler.core"
ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "scheduler" / "allotment_scheduler" / "core"
DATA: Final = ("objects.", "settings", "decisions", "report")
"""Modules, by the beginning of their names, that hold values and decide nothing."""
SHORT_CUTS: Final = (
    "entitlement.leap", "entitlement.forecast", "entitlement.crests", "entitlement.courses", "entitlement.landing",
    "entitlement.chart", "entitlement.ratios",
)  # fmt: skip
"""What they find is proven before it counts (`entitlement.proof`): a wrong one only costs time."""
CHECKERS: Final = ("state.invariants", "placement.seat_invariants")
"""Used by tests alone."""
MODULES: Final = tuple(
    name
    for path in sorted(FOLDER.rglob("*.py"))
    if path.name != "__init__.py"
    and not (name := ".".join(path.relative_to(FOLDER).with_suffix("").parts)).startswith(DATA + SHORT_CUTS + CHECKERS)
)
FILES: Final = 6
"""Files of tests that are run at a time."""
PATIENCE: Final = 900
"""Seconds of computing after which a mutant counts as noticed: an endless loop is a failure too."""

COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip
CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    module: str
    line: int
    change: str
    at: int = -1
    """Which node is replaced, in the order of `ordered`."""
    by: ast.AST | None = None
    """None for the module as it is."""

    def source(self) -> str:
        """The module with the change."""
        tree = ast.parse(text_of(self.module))
        if self.by is None:
            return ast.unparse(tree)
        return ast.unparse(ast.fix_missing_locations(Replace(self.at, copy.deepcopy(self.by)).visit(tree)))


def text_of(module: str) -> str:
    """A module's source, as it is."""
    return (FOLDER / (module.replace(".", "/") + ".py")).read_text()


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:  # noqa: C901, PLR0912 - one case for each operator
    """What could stand in a node's place, with words for it."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            other = copy.deepcopy(node)
            other.ops = [COMPARISONS[type(op)]()]
            yield "comparison", other
        case ast.BoolOp():
            other_op: ast.boolop = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
            yield "and/or", ast.BoolOp(other_op, node.values)
            for number in range(len(node.values)):
                rest = [value for index, value in enumerate(node.values) if index != number]
                yield f"operand {number + 1} dropped", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.UnaryOp(op=ast.Not()):
            yield "not dropped", node.operand
        case ast.UnaryOp(op=ast.USub()):
            yield "sign dropped", node.operand
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(op)](), node.right)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield "call", ast.Call(ast.Name(CALLS[name], ast.Load()), node.args, node.keywords)
        case ast.Constant(value=bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=0 | 1 as value):
            yield "one more", ast.Constant(value + 1)
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "statement dropped", ast.Pass()
        case ast.IfExp():
            yield "branches swapped", ast.IfExp(node.test, node.orelse, node.body)
        case ast.Continue():
            yield "continue", ast.Break()
        case ast.Tuple(elts=elements, ctx=ast.Load()) if 1 < len(elements) < 8:
            for number in range(len(elements) - 1):
                swapped = list(elements)
                swapped[number], swapped[number + 1] = swapped[number + 1], swapped[number]
                yield f"element {number + 1} after the next", ast.Tuple(swapped, ast.Load())


class Replace(ast.NodeTransformer):
    """Put one node in the place of the n-th that is met."""

    def __init__(self, at: int, by: ast.AST) -> None:
        self.at, self.by, self.met = at, by, -1

    def visit(self, node: ast.AST) -> ast.AST:
        """Count the nodes in the order of `ordered`."""
        self.met += 1
        if self.met == self.at:
            return ast.copy_location(self.by, node)
        return super().generic_visit(node)


def ordered(node: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, parents first, and whether each belongs to an annotation or a decorator, which decide nothing."""

    def walk(node: ast.AST, idle: bool) -> Iterator[tuple[ast.AST, bool]]:
        yield node, idle
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, idle or name in {"annotation", "returns", "decorator_list"})

    return walk(node, False)


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module."""
    return [
        Mutant(module, getattr(node, "lineno", 0), change, at, by)
        for at, (node, idle) in enumerate(ordered(ast.parse(text_of(module))))
        for change, by in (() if idle else changes(node))
    ]


class Source(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Serves a mutant's source instead of the module's own."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self.text = f"{PACKAGE}.{mutant.module}", mutant.source()

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Only the mutated module."""
        return spec_from_loader(fullname, self) if fullname == self.name else None

    def get_source(self, _fullname: str) -> str:
        """The mutant."""
        return self.text


def load() -> None:
    """Let pytest load its plugins and the fixtures, which takes longer than most mutants live; but not the core."""
    pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)])
    if PACKAGE in sys.modules:
        raise RuntimeError(f"{PACKAGE} is loaded before any mutant is: tests/conftest.py must not import it")


def run(tests: list[str]) -> int:
    """Run the tests until one fails, some files at a time: most mutants fall before the last are even imported."""
    for first in range(0, len(tests), FILES):
        code = int(pytest.main(["-x", "-q", "-m", "not soak", "-p", "no:cacheprovider", *tests[first : first + FILES]]))
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return code
    return 0


def noticed(mutant: Mutant, tests: list[str]) -> bool:
    """Run the tests on a mutant in a process of its own."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        sys.meta_path.insert(0, Source(mutant))
        code = 1
        with contextlib.suppress(BaseException):
            code = run(tests)
        os._exit(code)
    return os.waitpid(child, 0)[1] != 0


def quick_first(folder: Path) -> list[str]:
    """The core's tests, those with random worlds last: most mutants fall to an example."""
    return [str(path) for path in sorted(folder.glob("test_*.py"), key=lambda path: "given" in path.read_text())]


def main() -> int:
    """Run a sample; 1 when a mutant went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, default=100, help="how many mutants, 0 for all of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=inf, help="after so many no further mutant is tried")
    parser.add_argument("--modules", nargs="*", default=MODULES)
    parser.add_argument("--tests", nargs="*", default=quick_first(ROOT / "tests" / "scheduling"))
    given = parser.parse_args()
    everything = [mutant for module in given.modules for mutant in mutants_of(module)]
    drawn = random.Random(given.seed).sample(everything, given.sample) if given.sample else everything
    load()
    unchanged = Mutant("cycle", 0, "none")
    if noticed(unchanged, given.tests):
        print("the tests fail on the core as it is: mend that first")
        return 2
    survivors = number = 0
    until = time.monotonic() + 60 * given.minutes
    for mutant in drawn:
        if time.monotonic() > until:
            break
        number += 1
        seen = noticed(mutant, given.tests)
        survivors += not seen
        told = "noticed" if seen else "SURVIVED"
        print(f"{number:4}/{len(drawn)} {told:8} {mutant.module}:{mutant.line} {mutant.change}", flush=True)
    print(f"{number - survivors} of {number} noticed, drawn from {len(everything)}; seed {given.seed}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
