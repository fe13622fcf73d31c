"""Which kinds there are: the tenant's, and those of every package under `services`.

A service takes part by having a module ``kinds`` with a function ``kinds(surroundings)`` that returns its kinds. The
engine then serves them; nothing else has to be told.
"""

import importlib
import importlib.util
import logging
import pkgutil
from collections.abc import Iterable
from typing import Any

from allotment_operator import services
from allotment_operator.kind import Kind
from allotment_operator.surroundings import Surroundings

_logger = logging.getLogger(__name__)


def service_kinds(surroundings: Surroundings) -> list[Kind[Any]]:
    """Return every service's kinds, each made with the surroundings.

    A service that cannot be loaded is left out, with an error in the log: its resources stay as they are, and the other
    services and all tenants are looked after.
    """
    found: list[Kind[Any]] = []
    for name in service_modules():
        try:
            found += importlib.import_module(name).kinds(surroundings)
        except Exception:
            _logger.exception("the service %s cannot be loaded; its resources are left alone", name)
    return found


def service_modules() -> list[str]:
    """Return the name of the module ``kinds`` of every service package that has one."""
    packages = [f"{services.__name__}.{found.name}" for found in pkgutil.iter_modules(services.__path__) if found.ispkg]
    return [f"{name}.kinds" for name in packages if importlib.util.find_spec(f"{name}.kinds")]


def by_name(kinds: Iterable[Kind[Any]]) -> dict[str, Kind[Any]]:
    """Return kinds by the name of their model.

    Raises:
        ValueError: two of them have the same.
    """
    found: dict[str, Kind[Any]] = {}
    for kind in kinds:
        name = kind.model.definition.kind
        if name in found:
            raise ValueError(f"{name} is served twice, by {type(found[name]).__name__} and {type(kind).__name__}")
        found[name] = kind
    return found
