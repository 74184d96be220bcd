import asyncio
import io
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from support.wait import GUARD
from tidegate.app import doctor
from tidegate.app.doctor import Finding, as_json, examine, failed, render
from tidegate.gateway import mosquitto_binary
from tidegate.gateway.state import StateDir
from tidegate.policy.settings import Settings, load

ONE_OF_EACH = [
    Finding("memory", "ok", "1024 MiB available"),
    Finding("open files", "warn", "1024 descriptors", "ulimit -n 4096"),
    Finding("listen", "fail", "port [1883] is taken", "stop that process"),
]


class Machine:
    """A configuration that can work: free ports, a state directory that does not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.listen = '"tcp://127.0.0.1:0"'
        self.admin = "127.0.0.1:0"
        self.broker = ""
        self._file = folder / "tidegate.toml"

    def settings(self) -> Settings:
        self._file.write_text(
            f'[gateway]\nlisten = [{self.listen}]\nstate_dir = "{self.state_dir}"\n'
            + (f'broker = "{self.broker}"\n' if self.broker else "")
            + f'[admin]\nlisten = "{self.admin}"\n'
        )
        return load(self._file)

    async def findings(self) -> dict[str, Finding]:
        """By name; of several listeners, the last."""
        return {finding.name: finding for finding in await examine(self.settings())}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


async def test_a_machine_that_can_work_has_no_failure_and_is_left_as_it_was(machine: Machine) -> None:
    findings = await machine.findings()
    assert not failed(findings.values()), as_json(list(findings.values()))
    assert list(findings) == [
        "python", "tidegate", "uvloop", "open files", "memory", "huge pages",
        "net.core.somaxconn", "state_dir", "listen", "admin", "mosquitto",
    ]  # fmt: skip
    assert "will be embedded" in findings["mosquitto"].text
    assert not machine.state_dir.exists()


@pytest.mark.parametrize("name", ["listen", "admin"])
async def test_a_port_that_is_taken_names_its_holder(machine: Machine, taken: int, name: str) -> None:
    if name == "listen":
        machine.listen = f'"tcp://127.0.0.1:{taken}"'
    else:
        machine.admin = f"127.0.0.1:{taken}"
    findings = await machine.findings()
    assert [one.name for one in findings.values() if one.state == "fail"] == [name]
    assert f"pid {os.getpid()}" in findings[name].text
    assert findings[name].fix


async def test_the_running_gateways_own_port_is_no_failure(machine: Machine, taken: int) -> None:
    machine.listen = f'"tcp://127.0.0.1:{taken}"'
    state = StateDir(machine.state_dir)
    state.lock("127.0.0.1:9883")
    findings = await machine.findings()
    assert findings["listen"].state == "ok"
    assert "running gateway" in findings["listen"].text
    assert f"pid {os.getpid()}" in findings["state_dir"].text
    state.unlock()


async def test_a_state_directory_that_cannot_be_made_is_told(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    machine.state_dir = tmp_path / "file" / "state"
    finding = (await machine.findings())["state_dir"]
    assert finding.state == "fail"
    assert "gateway.state_dir" in finding.fix


async def test_a_missing_mosquitto_matters_only_without_a_broker(
    machine: Machine, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(mosquitto_binary, "_SYSTEM_FOLDERS", "/nonexistent")
    assert (await machine.findings())["mosquitto"].state == "fail"
    machine.broker = f"tcp://127.0.0.1:{taken}"
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.05)
    assert "mosquitto" not in await machine.findings()


@pytest.mark.parametrize(("told", "state"), [("1.6.9", "fail"), ("2.1.2", "ok"), (None, "fail")])
async def test_a_mosquitto_without_unix_sockets_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, told: str | None, state: str
) -> None:
    monkeypatch.setattr(doctor, "mosquitto_version", lambda _: told)
    assert (await machine.findings())["mosquitto"].state == state


async def test_a_broker_that_answers_is_told_with_its_sockets_permissions(machine: Machine, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x20\x02\x00\x00")
        await reader.read()
        writer.close()

    path = tmp_path / "mqtt"
    machine.broker = f"unix:{path}"
    async with asyncio.timeout(GUARD), await asyncio.start_unix_server(serve, path):
        path.chmod(0o770)
        finding = (await machine.findings())["broker"]
    assert finding.state == "ok"
    assert f"0770 {path.owner()}:{path.group()}" in finding.text


async def test_a_broker_that_is_away_is_told(machine: Machine, tmp_path: Path) -> None:
    machine.broker = f"unix:{tmp_path}/none"
    finding = (await machine.findings())["broker"]
    assert finding.state == "fail"
    assert "there is no socket" in finding.text


async def test_few_descriptors_are_told_in_connections(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 1024))
    finding = (await machine.findings())["open files"]
    assert (finding.state, finding.fix.split(",")[0]) == ("warn", "raise the hard limit in /etc/security/limits.conf")
    assert "478 clients per worker" in finding.text


async def test_little_memory_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=1 << 20))
    assert (await machine.findings())["memory"].state == "warn"


@pytest.mark.parametrize(
    ("given", "setting", "text", "fix"),
    [
        (True, "always advise [never] deny", "given to the memory of limits", ""),
        (False, "always advise [never] deny", "says never; with 100,000 keys", "echo advise > "),
        (False, "always advise never [deny]", "says deny; with 100,000 keys", "/etc/tmpfiles.d/tidegate.conf: w "),
        (False, "always [advise] never deny", "not given to the memory of limits at once; Linux may later", ""),
        (False, None, "this kernel has none", ""),
    ],
)
async def test_huge_pages_are_a_hint_and_never_a_failure(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: bool,
    setting: str | None,
    text: str,
    fix: str,
) -> None:
    file = tmp_path / "shmem_enabled"
    if setting is not None:
        file.write_text(f"{setting}\n")
    monkeypatch.setattr(doctor, "SHMEM_ENABLED", file)
    monkeypatch.setattr(doctor, "are_given", lambda: given)
    finding = (await machine.findings())["huge pages"]
    assert finding.state == "ok"
    assert text in finding.text
    assert (fix in finding.fix) if fix else not finding.fix


def test_only_a_failure_fails() -> None:
    assert failed(ONE_OF_EACH)
    assert not failed(ONE_OF_EACH[:2])


def test_json_has_every_finding() -> None:
    told = json.loads(as_json(ONE_OF_EACH))
    assert told["ok"] is False
    assert told["findings"][0] == {"name": "memory", "state": "ok", "text": "1024 MiB available", "fix": ""}
    assert len(told["findings"]) == len(ONE_OF_EACH)


def test_the_table_is_plain_text_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    render(ONE_OF_EACH, Console(file=out, width=80))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "ok    memory      1024 MiB available",
        "warn  open files  1024 descriptors",
        "                  fix: ulimit -n 4096",
        "fail  listen      port [1883] is taken",
        "                  fix: stop that process",
    ]


def test_the_table_is_coloured_on_a_terminal() -> None:
    out = io.StringIO()
    render(ONE_OF_EACH, Console(file=out, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[31mfail\x1b[0m" in out.getvalue()
