"""Logs: one line per event, JSON for machines, text on a terminal.

What is known of the present round (kind, namespace, name, tenant, round id) is kept in a context variable, so that
every line written during the round carries it, also those of libraries. `event` adds fields of its own.

It must never write a Secret's content: fields are names, counts and durations.
"""

import datetime as dt
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TextIO

_FIELDS: ContextVar[Mapping[str, Any]] = ContextVar("fields", default={})  # noqa: B039 - never mutated, only replaced
_ATTRIBUTE: Final = "allotment_fields"
_ORDER: Final = ("kind", "namespace", "name", "tenant", "round")


@contextmanager
def fields(**values: object) -> Iterator[None]:
    """Add fields to every line written inside, by this task and those it starts."""
    token = _FIELDS.set({**_FIELDS.get(), **{name: value for name, value in values.items() if value not in {None, ""}}})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def event(logger: logging.Logger, message: str, *, level: int = logging.INFO, **values: object) -> None:
    """Log one event with fields of its own; those that are None are left out."""
    given = {name: value for name, value in values.items() if value is not None}
    logger.log(level, message, extra={_ATTRIBUTE: given})


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return every field that a record carries: the round's, the event's, and what a framework says of the object."""
    found: dict[str, Any] = {}
    reference = getattr(record, "k8s_ref", None)
    if isinstance(reference, Mapping):
        found = {name: reference[name] for name in ("kind", "namespace", "name") if reference.get(name)}
    return {**found, **_FIELDS.get(), **getattr(record, _ATTRIBUTE, {})}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, the object, the message, and what else there is."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        found = fields_of(record)
        name = "/".join(str(found.pop(part)) for part in ("namespace", "name") if part in found)
        about = " ".join(part for part in (str(found.pop("kind", "")), name) if part)
        rest = " ".join(f"{key}={value}" for key, value in sorted(found.items(), key=_rank))
        head = f"{_time(record):%H:%M:%S} {record.levelname[0]} "
        line = head + " ".join(part for part in (f"[{about}]" if about else "", record.getMessage(), rest) if part)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _rank(item: tuple[str, Any]) -> tuple[int, str]:
    return (_ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER), item[0])


def _time(record: logging.LogRecord) -> dt.datetime:
    return dt.datetime.fromtimestamp(record.created, tz=dt.UTC)


def configure(level: str, form: str, *, quiet: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send all logs of the process to one stream (standard error), in one form.

    `quiet` names loggers whose own account says nothing that ours does not: only their warnings are kept.
    """
    target = stream or sys.stderr
    text = form == "text" or (form == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("aiohttp.access", "asyncio", *quiet):
        logging.getLogger(name).setLevel(logging.WARNING)
