"""Logs: lines on standard error, as text for people or as JSON for machines.

Several processes share that file, so a line is one write. Values may come from the network: whatever a
hostile client calls itself, it stays inside its own line and its own field, and cannot speak to a terminal.
"""

import contextlib
import json
import logging
import os
from collections.abc import MutableMapping
from typing import Any

import structlog

MAX_VALUE = 512
"""Characters of a value that are shown: a line with several fits PIPE_BUF, what a pipe keeps in one piece."""

_STDERR = 2
_FORMATS = ("text", "json")
_LEVELS = ("debug", "info", "warning", "error", "critical")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
"""SGR parameters (ECMA-48, section 8.3.117): faint, green, yellow, red, bold red."""
_FIRST = ("time", "level", "process", "event")
_UNQUOTED = set(' "=\\')

Fields = MutableMapping[str, Any]


def configure(log_format: str, level: str, process: str) -> None:
    """Send what structlog and `logging` are told to standard error, from `level` upwards.

    `process` is this process's name, said in every line; a worker that was forked calls again with its own.
    `time`, `level`, `process` and `event` are taken: a caller's field of that name is not shown.
    ValueError for a format or level that does not exist.
    """
    for what, value, known in (("format", log_format, _FORMATS), ("level", level, _LEVELS)):
        if value not in known:
            raise ValueError(f"log {what} {value!r} does not exist: use one of {', '.join(known)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    terminal = log_format == "text" and os.isatty(_STDERR)
    colour = terminal and not os.environ.get("NO_COLOR")
    # Whoever watches a terminal knows the day, and the line should fit; a file is read elsewhere and later.
    stamp = structlog.processors.TimeStamper("%H:%M:%S" if terminal else "iso", utc=not terminal, key="time")

    def complete(_: object, method: str, fields: Fields) -> Fields:
        return {**fields, "level": method, "process": process}

    def render(_: object, __: str, fields: Fields) -> str:
        plain = to_plain(fields)
        return render_json(plain) if log_format == "json" else render_text(plain, colour)

    structlog.configure(
        processors=[
            complete,
            stamp,
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _StandardError(),
        # A cached logger would keep the name that its process had before it was forked.
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_FromLogging()], level=number, force=True)


def to_plain(fields: Fields) -> dict[str, Any]:
    """The fields in the order in which they are shown, with values of JSON's types, none of them long."""
    plain = {key: _plain(fields[key]) for key in _FIRST}
    plain |= {key: _plain(value) for key, value in fields.items() if key not in {*_FIRST, "exception"}}
    if "exception" in fields:
        plain["exception"] = fields["exception"]  # our own traceback, worth its length
    return plain


def render_json(plain: dict[str, Any]) -> str:
    """One object, in ASCII: control characters, and whatever else a terminal might obey, are escaped."""
    return json.dumps(plain)


def render_text(plain: dict[str, Any], colour: bool) -> str:
    """Time, level, process and event in columns, then `key=value`; a traceback follows, indented."""
    rest = dict(plain)
    time, level, process, event = (rest.pop(key) for key in _FIRST)
    trace = rest.pop("exception", "")
    begin, faint, end = (f"\x1b[{_COLOURS[level]}m", "\x1b[2m", "\x1b[0m") if colour else ("", "", "")
    pairs = " ".join(f"{faint}{key}={end}{_quote(value)}" for key, value in rest.items())
    columns = f"{faint}{time}{end} {begin}{level:8}{end} {process:10} {_escape(str(event)):32} {pairs}"
    return "\n".join([columns.rstrip(), *(f"    {_escape(line)}" for line in trace.splitlines())])


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}… ({len(text)} characters)"


def _quote(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if text and text.isprintable() and not _UNQUOTED.intersection(text):
        return text
    return '"' + _escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _StandardError:
    """The end of structlog's chain."""

    def write(self, line: str) -> None:
        rest = f"{line}\n".encode()
        # Whoever read the log is gone, or its disk is full: there is nowhere left to say so; work goes on.
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(_STDERR, rest) :]

    debug = info = warning = error = critical = write


class _FromLogging(logging.Handler):
    """Hands what uvicorn, asyncio and other libraries log to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        # structlog knows the five levels only; a library's own level is rounded down.
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger().log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)
