"""Answers of the commands as the reference of their JSON lists them."""

from typing import Any

from allotment_api.outputs import OUTPUTS, Output

TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "number": (int, float)}
MAPS = frozenset({"used", "guaranteed", "limits", "entitlement", "waitingByReason", "evictions"})


def output_of(command: str) -> Output:
    """What the reference says of a command."""
    return next(each for each in OUTPUTS if each.command.split()[1] == command)


def flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The values of an answer by their paths, as the reference writes them."""
    if isinstance(value, list):
        return [found for each in value for found in flat(each, f"{path}[]")]
    if isinstance(value, dict):
        is_map = path.rpartition(".")[2] in MAPS
        return [found for key, each in value.items()
                for found in flat(each, f"{path}.*" if is_map else f"{path}.{key}".removeprefix("."))]  # fmt: skip
    return [(path, value)]


def unlisted(answer: Any, output: Output) -> list[tuple[str, Any]]:
    """What an answer has that the reference does not list, or not with that type."""
    listed = {each.path: each.type for each in output.fields}
    return [
        (path, value)
        for path, value in flat(answer)
        if not (value is None and listed.get(path, "").endswith("?"))
        and not isinstance(value, TYPES.get(listed.get(path, "").removesuffix("?"), ()))
    ]
