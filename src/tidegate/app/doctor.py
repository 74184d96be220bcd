"""`tidegate doctor`: what this machine gives the gateway, what it lacks and how to mend that.

It looks at the same addresses, directory and broker as `serve` would, with the same code, and changes
nothing.
"""

import importlib
import importlib.util
import json
import platform
import resource
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..engine.huge_pages import are_given
from ..gateway.holder import holder
from ..gateway.listeners import BACKLOG, ListenError, check_free
from ..gateway.mosquitto import check_socket_path, socket_path
from ..gateway.mosquitto_binary import find_mosquitto, install_command, mosquitto_version
from ..gateway.probe import permissions, probe
from ..gateway.room import UNLIMITED, clients_within
from ..gateway.start_error import StartError
from ..gateway.state import Owner, StateDir
from ..policy.address import Address
from ..policy.settings import Settings
from .serve import PROBE_SECONDS, Plan

FEW_CONNECTIONS = 1000
"""Below this a worker's limit is worth a warning: the soft limit of most systems, 1024 descriptors, gives
478."""
LITTLE_MEMORY = 256 << 20
"""Bytes: an allowance for the supervisor, a worker, an embedded broker and a burst of messages."""
MANY_KEYS = "100,000 keys in use or more"
"""Fewer stay in the processor's caches (benchmarks/README.md, Engine)."""
SHMEM_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """What one look has found; `fix` is empty when nothing needs mending. With `ok`: what could be better still."""

    name: str
    state: Literal["ok", "warn", "fail"]
    text: str
    fix: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which `serve` needs the things, within PROBE_SECONDS per broker."""
    state_dir = StateDir(settings.gateway.state_dir)
    owner, directory = _state_dir(state_dir)
    plan = Plan(settings)
    if owner is None:  # else the broker that has port 1883 is the running gateway itself
        await plan.find_broker(settings)
    return [
        Finding("python", "ok", f"{platform.python_implementation()} {platform.python_version()}"),
        *_packages(),
        _descriptors(len(plan.listen), settings.gateway.workers),
        _memory(),
        _huge_pages(),
        _backlog(),
        directory,
        *(_listener("listen", address, owner) for address in plan.listen),
        _listener("admin", settings.admin.listen, owner),
        *(Finding("broker", "ok", note) for note in plan.notes),
        await _broker(plan.broker) if plan.broker else _embedded(settings.gateway.state_dir),
    ]


def failed(findings: Iterable[Finding]) -> bool:
    """Whether the gateway cannot work until something is mended."""
    return any(finding.state == "fail" for finding in findings)


def render(findings: Sequence[Finding], console: Console) -> None:
    """Print a table, in colour where `console` is a terminal."""
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        text = escape(finding.text) + (f"\n[bold]fix:[/bold] {escape(finding.fix)}" if finding.fix else "")
        table.add_row(f"[{_COLOURS[finding.state]}]{finding.state}[/]", finding.name, text)
    console.print(table)


def as_json(findings: Sequence[Finding]) -> str:
    """An object with `ok` and the list of `findings`."""
    return json.dumps({"ok": not failed(findings), "findings": [asdict(one) for one in findings]}, indent=2)


def _packages() -> list[Finding]:
    """Tidegate's compiled modules, and the event loop."""
    package = Path(__file__).parent.parent
    sources = sorted(package.rglob("*.pxd"))  # each compiled module has one
    interpreted, broken = [], []
    for source in sources:
        name = ".".join(("tidegate", *source.relative_to(package).with_suffix("").parts))
        spec = importlib.util.find_spec(name)
        if spec is None or not (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES)):
            interpreted.append(name)
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken.append(f"{name} ({error})")
    again = "install Tidegate again: pip install --force-reinstall tidegate"
    if broken:
        finding = Finding("tidegate", "fail", f"modules that cannot be imported: {', '.join(broken)}", again)
    elif interpreted:
        finding = Finding(
            "tidegate", "warn", f"modules that are not compiled and slow: {', '.join(interpreted)}", again
        )
    else:
        finding = Finding("tidegate", "ok", f"{version('tidegate')}, {len(sources)} compiled modules")
    try:
        importlib.import_module("uvloop")
    except ImportError as error:
        return [finding, Finding("uvloop", "fail", f"cannot be imported: {error}", "pip install uvloop")]
    return [finding, Finding("uvloop", "ok", version("uvloop"))]


def _descriptors(listeners: int, workers: int) -> Finding:
    """The open-file limit, in clients: each takes two descriptors, its own connection's and the broker's."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # `serve` raises the soft limit to the hard one
    if hard == resource.RLIM_INFINITY:
        hard = UNLIMITED
    fit = clients_within(hard, listeners, workers)
    text = f"{hard} descriptors per process: {fit} clients per worker, {fit * workers} in all; more are refused"
    if fit >= FEW_CONNECTIONS:
        return Finding("open files", "ok", text)
    fix = "raise the hard limit in /etc/security/limits.conf, or LimitNOFILE=65536 in the systemd unit"
    return Finding("open files", "warn", text, fix)


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    text = f"{available >> 20} MiB available"
    if available >= LITTLE_MEMORY:
        return Finding("memory", "ok", text)
    return Finding("memory", "warn", text, f"free some: at least {LITTLE_MEMORY >> 20} MiB leaves room for bursts")


def _huge_pages() -> Finding:
    """Whether the segment is in pages of 2 MiB. That it is not is no fault: with few keys it makes no difference."""
    if are_given():
        return Finding("huge pages", "ok", "given to the memory of limits from 2 MiB on")
    text = "not given to the memory of limits"
    try:
        chosen = SHMEM_ENABLED.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return Finding("huge pages", "ok", f"{text}: this kernel has none; with {MANY_KEYS} it would decide faster")
    if chosen not in ("never", "deny"):
        return Finding("huge pages", "ok", f"{text} at once; Linux may later, as {SHMEM_ENABLED} says {chosen}")
    return Finding(
        "huge pages",
        "ok",
        f"{text}: {SHMEM_ENABLED} says {chosen}; with {MANY_KEYS} it would decide faster",
        f"before the gateway starts: echo advise > {SHMEM_ENABLED}; for every boot a line in "
        f"/etc/tmpfiles.d/tidegate.conf: w {SHMEM_ENABLED} - - - - advise",
    )


def _backlog() -> Finding:
    """The kernel's bound of a listening socket's queue."""
    name = "net.core.somaxconn"
    bound = int(Path("/proc/sys/net/core/somaxconn").read_text())
    text = f"{bound} connections may wait to be accepted"
    if bound >= BACKLOG:
        return Finding(name, "ok", text)
    return Finding(name, "warn", f"only {text}", f"sysctl -w {name}={BACKLOG}")


def _state_dir(state_dir: StateDir) -> tuple[Owner | None, Finding]:
    try:
        state_dir.check_writable()
        owner = state_dir.owner()
    except StartError as error:
        return None, Finding("state_dir", "fail", error.text, error.fix)
    if owner is None:
        return None, Finding("state_dir", "ok", f"{state_dir.path} can be written and is free")
    return owner, Finding(
        "state_dir", "ok", f"{state_dir.path} has a running gateway (pid {owner.pid}, admin at {owner.admin})"
    )


def _listener(name: str, address: Address, owner: Owner | None) -> Finding:
    try:
        check_free(address)
    except ListenError as error:
        if owner is not None and _is_of(owner, holder(address).pid):
            return Finding(name, "ok", f"{address} is served by the running gateway")
        return Finding(name, "fail", error.text, error.fix)
    return Finding(name, "ok", f"{address} is free")


def _is_of(owner: Owner, pid: int | None) -> bool:
    """Whether a process is the gateway's supervisor or one of its workers."""
    try:
        return pid is not None and owner.pid in (
            pid,
            *(parent.pid for parent in psutil.Process(pid).parents()),
        )
    except psutil.NoSuchProcess:
        return False


def _embedded(state_dir: Path) -> Finding:
    """Whether a Mosquitto can be embedded."""
    try:
        binary = find_mosquitto()
        check_socket_path(socket_path(state_dir))
    except StartError as error:
        return Finding("mosquitto", "fail", error.text, error.fix)
    found = mosquitto_version(binary)
    if found is None:
        return Finding("mosquitto", "fail", f"{binary} does not tell its version", f"see what it says: {binary} -h")
    if int(found.split(".")[0]) < 2:
        return Finding("mosquitto", "fail", f"{binary} is version {found}, without Unix sockets", install_command())
    return Finding("mosquitto", "ok", f"{binary}, version {found}, will be embedded")


async def _broker(address: Address) -> Finding:
    trouble = await probe(address, PROBE_SECONDS)
    if trouble:
        return Finding("broker", "fail", f"{address}: {trouble}", "start the broker, or mend gateway.broker")
    if address.kind == "unix":
        return Finding("broker", "ok", f"{address} answers; its socket is {permissions(address.path)}")
    return Finding("broker", "ok", f"{address} answers")
