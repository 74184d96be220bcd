"""A gateway that has all the connections it can have files for: who comes then is refused, and nobody else notices.

The gateway is started with an open-file limit of --files. Twenty clients publish; idle ones come until one is
refused, and then some more, each of which must be told, or closed, at once. Then some leave, and as many others come;
and all leave, and as many come once more. The memory of its process tree is read before the first come and when it is
full.
"""

import socket
import time
from dataclasses import dataclass

from .claims import Claim, at_most, exactly, holds, none, within
from .company import Company, undisturbed
from .connections_setting import Setting
from .memory import WARM_UP, close_all, open_clients
from .metrics import Metrics
from .stage import Stage, cpu_seconds, memory, program, require, require_files
from .targets import Options, start_mosquitto, start_target
from .wire import PINGREQ, Refused, connect_packet, first_packet, open_client

CLIENTS, EACH = 20, 10.0
EXTRA = 200
"""Clients that come when it is full."""
EXTRA_SECONDS = 5.0
"""In which they come."""
LEAVING = 100
"""Clients that make room for others."""
SHARE = 0.9
"""Of the limit that must be of use: a proxied connection takes two files."""
PER_CONNECTION = 6
"""KiB of memory at most."""
BUSY = 0.25
"""Of a core, while it refuses them: one that tries to accept what it cannot have runs all the time."""
AT_ONCE_SECONDS = 1.0
PATIENCE_SECONDS = 5.0
REST_SECONDS = 5.0
SETTLE_SECONDS = 2.0
LAST_SECONDS = 10.0
SPARE_FILES = 400
PONG = b"\xd0\x00"
TOO_MANY = b"Too many open files"


@dataclass(frozen=True)
class Answer:
    """What one client was told, and after how long."""

    what: str
    seconds: float


def files(setting: Setting) -> list[Claim]:
    """The demonstration."""
    require(["prlimit"])
    require_files(setting.files // 2 + SPARE_FILES)
    limited = (str(program("prlimit")), f"--nofile={setting.files}:{setting.files}", *setting.tidegate)
    with Stage() as stage:
        broker = start_mosquitto(stage)
        target = start_target(stage, "tidegate-unix", broker, Options(tidegate=limited, policy="\n"))
        company = Company(target.port, broker.tcp, clients=CLIENTS, each=EACH)
        company.start()
        begin = time.monotonic()
        close_all(open_clients(target.port, "warm", WARM_UP))
        time.sleep(REST_SECONDS)
        before, between = memory(target.pid), time.monotonic()
        inside = _fill(target.port, "idle", setting.files)
        most = len(inside)
        after, cpu, full = memory(target.pid), cpu_seconds(target.pid), time.monotonic()
        answers = [_come(target.port, number, full) for number in range(EXTRA)]
        busy = (cpu_seconds(target.pid) - cpu) / (time.monotonic() - full)
        silent = _silent(inside)
        end = time.monotonic()
        close_all(inside[:LEAVING])
        time.sleep(SETTLE_SECONDS)
        others = _fill(target.port, "other", LEAVING)
        close_all(inside[LEAVING:] + others)
        time.sleep(SETTLE_SECONDS)
        left = Metrics(target.admin).sum("tidegate_connections") - CLIENTS
        again = _fill(target.port, "again", most)
        once_more = len(again)
        close_all(again)
        company.stop(LAST_SECONDS)
        metrics = Metrics(target.admin)
        refused, restarts = (
            metrics.by("tidegate_refused_total", "reason"),
            metrics.sum("tidegate_worker_restarts_total"),
        )
        complaints = (stage.folder / f"{target.name}.log").read_bytes().count(TOO_MANY)
    rest, during = company.between(begin, between), company.between(between, end)
    told = {what: sum(answer.what == what for answer in answers) for what in sorted({a.what for a in answers})}
    print(
        f"  {most} idle clients and {CLIENTS} others with {setting.files} files;"
        f" of {EXTRA} more: {', '.join(f'{count} {what}' for what, count in told.items())};"
        f" refused by reason: {', '.join(f'{count} {reason}' for reason, count in refused.items() if count) or 'none'}"
    )
    return [
        within("connections that it has room for", setting.files * SHARE / 2, setting.files / 2, most + CLIENTS, ""),
        at_most(
            "private memory per connection",
            PER_CONNECTION,
            (after["private"] - before["private"]) / 1024 / max(1, most),
            "KiB",
        ),
        none("of more: let in, or left without an answer", [a.what for a in answers if a.what in (LET_IN, NOTHING)]),
        at_most("of more: the longest until its answer", AT_ONCE_SECONDS, max(a.seconds for a in answers), "s"),
        at_most("cores that it needs to refuse them", BUSY, busy, ""),
        exactly("counted as refused for want of files", EXTRA + 1, refused.get("open_files", 0)),
        exactly("complaints of the kernel in its log", 0, complaints),
        exactly("workers that ended", 0, restarts),
        none("of those inside: without an answer to PINGREQ", silent),
        *undisturbed("clients that publish", rest, during, company.trouble),
        exactly(f"let in when {LEAVING} had left", LEAVING, len(others)),
        exactly("connections when all had left", 0, left),
        holds(f"let in once more: {once_more}, as many as before", once_more >= most),
    ]


LET_IN, NOTHING = "let in", "without an answer"


def _fill(port: int, name: str, most: int) -> list[socket.socket]:
    """Clients until one is refused, or there are so many."""
    clients: list[socket.socket] = []
    while len(clients) < most:
        try:
            clients.append(open_client(port, f"{name}-{len(clients)}", PATIENCE_SECONDS))
        except Refused:
            break
    return clients


def _come(port: int, number: int, begin: float) -> Answer:
    """One more, when its time has come."""
    time.sleep(max(0.0, begin + number * EXTRA_SECONDS / EXTRA - time.monotonic()))
    start = time.monotonic()
    with socket.socket() as client:
        client.settimeout(PATIENCE_SECONDS)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(connect_packet(f"more-{number}", version=(4, 5)[number % 2]))
            packet = first_packet(client.recv(256))
        except TimeoutError:
            return Answer(NOTHING, time.monotonic() - start)
        except OSError:
            packet = None
        seconds = time.monotonic() - start
    if packet is None:
        return Answer("closed", seconds)
    return Answer(f"told 0x{packet[3]:02x}" if packet[3] else LET_IN, seconds)


def _silent(clients: list[socket.socket]) -> list[int]:
    """Those who get no answer to a PINGREQ, by their number."""
    found = []
    for number, client in enumerate(clients):
        try:
            client.sendall(PINGREQ)
            alive = client.recv(2) == PONG
        except OSError:
            alive = False
        if not alive:
            found.append(number)
    return found
