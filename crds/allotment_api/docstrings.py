"""What stands below the fields of a model in its source: the text of `kubectl explain`, of the reference, of `--help`.

It is read when somebody asks for it. Programs start without: reading the source of every model takes longer than
making the models.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


@cache
def texts(model: type[BaseModel]) -> Mapping[str, str]:
    """The docstring of every field that has one, inherited fields included. A field that is given anew has its own."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each is not BaseModel and issubclass(each, BaseModel):
            for name, text in _written(each):
                found.pop(name, None)
                if text is not None:
                    found[name] = text
    return found


def _written(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    """The fields that a class states by itself, with what stands below them."""
    for statement, following in pairwise([*_body(model), None]):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, _text(following)


def _text(statement: ast.stmt | None) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        written = statement.value.value
        return inspect.cleandoc(written) if isinstance(written, str) else None
    return None


def _body(model: type[BaseModel]) -> list[ast.stmt]:
    """The statements of a class; none of a class that is made and not written."""
    body: list[ast.stmt] = _module(model.__module__).body
    for name in model.__qualname__.split("."):
        if name != "<locals>":
            named = (it for it in body if isinstance(it, ast.ClassDef | ast.FunctionDef) and it.name == name)
            scope = next(named, None)
            body = scope.body if scope is not None else []
    return body


@cache
def _module(name: str) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(sys.modules[name]))
    except OSError:  # installed without its source: then nothing can be said
        return ast.Module(body=[], type_ignores=[])
