import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tidegate.app.logs import MAX_VALUE, configure, render_text, to_plain

HOSTILE = [
    "a\n2026-01-01T00:00:00.000000Z info     supervisor all is well",
    "a\r\nb",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egpj.exe",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\x00\x7f\x08",
    "\ud800",
    'x" level=critical event="forged',
    "a b=c",
    "\\n",
    "",
]


@pytest.fixture(autouse=True)
def _global_state_is_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level
    yield
    logging.root.setLevel(level)
    structlog.reset_defaults()


def fail(text: str) -> None:
    raise RuntimeError(text)


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("\n")
    return err[:-1].split("\n")


def unquoted(text: str) -> str:
    """What stands behind `client=` in a line of text, read back."""
    if not text.startswith('"'):
        return text
    assert text.endswith('"')
    return text[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")


def test_text_has_columns(capfd: pytest.CaptureFixture[str]) -> None:
    configure("text", "info", "worker-0")
    log = structlog.get_logger()
    log.info("client connected", client="plc-7", port=1883)
    log.warning("upstream down", broker="127.0.0.1:1883")
    first, second = lines(capfd)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z info     worker-0   "
        r"client connected +client=plc-7 port=1883",
        first,
    )
    assert first.index("client=") == second.index("broker=")


def test_json_is_one_object_per_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "supervisor")
    structlog.get_logger().info("listening", addresses=["127.0.0.1:1883", "[::1]:1883"], workers=2, tls=None)
    (line,) = lines(capfd)
    record = json.loads(line)
    assert list(record) == ["time", "level", "process", "event", "addresses", "workers", "tls"]
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "info",
        "process": "supervisor",
        "event": "listening",
        "addresses": ["127.0.0.1:1883", "[::1]:1883"],
        "workers": 2,
        "tls": None,
    }


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["client", "topic"])
def test_text_keeps_a_hostile_value_in_its_line_and_field(
    capfd: pytest.CaptureFixture[str], key: str, value: str
) -> None:
    configure("text", "info", "worker-0")
    structlog.get_logger().info("refused", **{key: value})
    (line,) = lines(capfd)
    assert line.isprintable()
    assert unquoted(line.partition(f"{key}=")[2]) == value


@pytest.mark.parametrize("value", HOSTILE)
def test_json_keeps_a_hostile_value_in_its_line_and_field(capfd: pytest.CaptureFixture[str], value: str) -> None:
    configure("json", "info", "worker-0")
    structlog.get_logger().info("refused", client=value)
    (line,) = lines(capfd)
    assert line.isascii()
    # JSON may hold U+007F as it is; terminals ignore it.
    assert line.replace("\x7f", "").isprintable()
    assert json.loads(line)["client"] == value


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_hostile_message_of_a_library_stays_in_its_line(capfd: pytest.CaptureFixture[str], log_format: str) -> None:
    configure(log_format, "info", "supervisor")
    logging.getLogger("some.library").warning("bad request: %s", "\x1b[2J\nforged")
    (line,) = lines(capfd)
    assert line.isprintable()


def test_bytes_and_long_values(capfd: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "worker-0")
    structlog.get_logger().info("refused", client=b"caf\xc3\xa9\xff", topic="x" * 65_535, both=["y" * 65_535])
    record = json.loads(lines(capfd)[0])
    assert record["client"] == "café\\xff"
    assert record["topic"] == "x" * MAX_VALUE + "… (65535 characters)"
    assert len(record["both"][0]) < MAX_VALUE + 30


def test_lists_in_text() -> None:
    fields = {"time": "T", "level": "info", "process": "p", "event": "e", "addresses": ("a:1", "b:2")}
    assert render_text(to_plain(fields), colour=False).endswith(" addresses=a:1,b:2")


def test_level_and_the_fields_that_are_taken(capfd: pytest.CaptureFixture[str]) -> None:
    configure("json", "warning", "worker-1")
    log = structlog.get_logger()
    log.info("not shown")
    logging.getLogger("asyncio").info("not shown either")
    log.error("shown", process="forged", level="info", time="never")
    record = json.loads(lines(capfd)[0])
    assert (record["process"], record["level"]) == ("worker-1", "error")
    assert record["time"] != "never"


def test_a_logger_made_before_follows_a_new_configuration(capfd: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    for process in ("supervisor", "worker-3"):
        configure("json", "info", process)
        log.info("here")
    assert [json.loads(line)["process"] for line in lines(capfd)] == ["supervisor", "worker-3"]


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (logging.INFO, "info"),
        (25, "info"),
        (logging.WARNING, "warning"),
        (logging.CRITICAL, "critical"),
        (99, "critical"),
    ],
)
def test_libraries_go_the_same_way(capfd: pytest.CaptureFixture[str], number: int, level: str) -> None:
    configure("json", "debug", "supervisor")
    logging.getLogger("some.library").log(number, "%d of %s", 3, "100%")
    record = json.loads(lines(capfd)[0])
    assert (record["level"], record["event"], record["logger"]) == (level, "3 of 100%", "some.library")


def test_asyncio_reports_an_exception_nobody_awaited(capfd: pytest.CaptureFixture[str]) -> None:
    configure("json", "info", "supervisor")
    loop = asyncio.new_event_loop()
    loop.call_exception_handler({"message": "never retrieved", "exception": RuntimeError("lost")})
    loop.close()
    (line,) = lines(capfd)
    record = json.loads(line)
    assert record["logger"] == "asyncio"
    assert record["exception"].endswith("RuntimeError: lost")


def test_a_traceback_in_text_is_indented_and_cannot_forge_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure("text", "info", "worker-0")
    try:
        fail("one\n2026-01-01T00:00:00Z info forged\x1b[2J")
    except RuntimeError:
        structlog.get_logger().exception("unexpected", client="a")
    first, *rest = lines(capfd)
    assert first.endswith(" client=a")
    assert " error    worker-0   unexpected" in first
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert "RuntimeError: one" in rest[-2]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_record_is_one_write(monkeypatch: pytest.MonkeyPatch, log_format: str) -> None:
    written: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        assert fd == 2
        written.append(data)
        return len(data)

    configure(log_format, "info", "worker-0")
    monkeypatch.setattr(os, "write", write)
    try:
        fail("x")
    except RuntimeError:
        structlog.get_logger().exception("unexpected")
    assert len(written) == 1
    assert written[0].endswith(b"RuntimeError: x\n" if log_format == "text" else b"}\n")


def test_a_short_write_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    written = bytearray()

    def write(_: int, data: bytes) -> int:
        written.extend(data[:7])
        return len(data[:7])

    configure("json", "info", "worker-0")
    monkeypatch.setattr(os, "write", write)
    structlog.get_logger().info("whole")
    assert json.loads(written)["event"] == "whole"


def test_a_log_that_nobody_reads_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: int, __: bytes) -> int:
        raise BrokenPipeError

    configure("text", "info", "worker-0")
    monkeypatch.setattr(os, "write", write)
    structlog.get_logger().info("to nobody")


SAY = """
import structlog
from tidegate.app.logs import configure
configure("text", "info", "worker-0")
structlog.get_logger().info("hi", a=1)
"""


def said_on_a_terminal(**environment: str) -> bytes:
    ours, theirs = os.openpty()
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | environment
    subprocess.run([sys.executable, "-c", SAY], check=True, stderr=theirs, env=env, timeout=60)
    os.close(theirs)
    said = os.read(ours, 4096)
    os.close(ours)
    return said


def test_colour_on_a_terminal_only(capfd: pytest.CaptureFixture[str]) -> None:
    assert b"\x1b[32minfo    \x1b[0m" in said_on_a_terminal()
    assert b"\x1b" not in said_on_a_terminal(NO_COLOR="1")
    configure("text", "info", "worker-0")
    structlog.get_logger().info("hi")
    assert "\x1b" not in lines(capfd)[0]


def test_colour_is_ours_alone() -> None:
    fields: dict[str, Any] = {
        "time": "T",
        "level": "error",
        "process": "p",
        "event": "\x1b[1m",
        "client": "\x1b[2J",
    }
    text = render_text(to_plain(fields), colour=True)
    assert set(re.findall(r"\x1b[^m]*m", text)) == {"\x1b[2m", "\x1b[31m", "\x1b[0m"}


@pytest.mark.parametrize(("log_format", "level"), [("xml", "info"), ("text", "loud"), ("text", "INFO")])
def test_what_cannot_be_configured_is_named_with_what_can(log_format: str, level: str) -> None:
    with pytest.raises(ValueError, match=r"log (format 'xml'|level '\w+') does not exist: use one of \w+, "):
        configure(log_format, level, "supervisor")
