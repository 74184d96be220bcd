"""The broker, and all that can stand in front of it: one way to start each, on a free port of 127.0.0.1."""

import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

from .policy import policy_text
from .stage import NGINX_STREAM, Stage, free_ports, program, require
from .wire import Refused, wait_for_connack

ROOT = pathlib.Path(__file__).parent.parent
START_SECONDS = 30.0
"""How long a target may take until a client is accepted through it."""
MOSQUITTO = """\
user root
listener {tcp} 127.0.0.1
allow_anonymous true
listener 0 {unix}
allow_anonymous true
max_inflight_messages 50
max_queued_messages 0
set_tcp_nodelay true
log_type error
{extra}"""
"""50 in flight is what the window scenario needs. `user root`, ignored unless root starts it: the socket is
0770, which would shut out what runs as another user."""
HAPROXY = """\
global
 nbthread 1
 maxconn {connections}
defaults
 mode tcp
 timeout connect 5s
 timeout client 1h
 timeout server 1h
listen l
 bind 127.0.0.1:{port}
{rules} server m {upstream}
"""
NGINX = """\
load_module {module};
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
daemon off;
events {{ worker_connections {descriptors}; }}
stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{upstream}; tcp_nodelay on; }} }}
"""
TIDEGATE = """\
[gateway]
listen = "tcp://127.0.0.1:{port}"
broker = "{upstream}"
workers = {workers}
state_dir = "{folder}/{name}.state"
{extra}
[admin]
listen = "127.0.0.1:{admin}"

{policy}"""


@dataclass(frozen=True)
class Broker:
    """Where the broker listens; `pid` is its process."""

    tcp: int
    unix: pathlib.Path
    pid: int

    def url(self, by: str) -> str:
        """The address as Tidegate writes it, `by` tcp or unix."""
        return f"unix:{self.unix}" if by == "unix" else f"tcp://127.0.0.1:{self.tcp}"


@dataclass(frozen=True)
class Target:
    """Something that clients can be pointed at: its port, and the root of its process tree."""

    name: str
    port: int
    pid: int
    admin: int = 0
    """Tidegate's port of /metrics."""
    config: pathlib.Path = pathlib.Path()
    """Tidegate's configuration."""


@dataclass(frozen=True)
class Options:
    """How targets are started."""

    tidegate: tuple[str, ...]
    """The command that `serve -c FILE` is appended to."""
    connections: int = 4000
    """Of clients, at most."""
    workers: int = 1
    haproxy_rules: str = ""
    """More lines for HAProxy's listener."""
    gateway_keys: str = ""
    """More lines for Tidegate's [gateway]."""
    limits: int = 0
    """Limits of its policy; see policy.py."""
    policy: str = ""
    """The tables of its policy instead of those."""


def start_mosquitto(stage: Stage, extra: str = "", *, name: str = "mosquitto", command: str = "") -> Broker:
    """A Mosquitto on a TCP port and on a Unix socket; `extra` are more lines of its configuration.

    `name`: of its files, where a stage has several. `command`: another than the one that is installed.
    """
    if not command:
        require(["mosquitto"])
    (tcp,) = free_ports(1)
    unix = stage.folder / f"{name}.sock"
    path = stage.folder / f"{name}.conf"
    path.write_text(MOSQUITTO.format(tcp=tcp, unix=unix, extra=extra))
    pid = stage.start(name, [command or str(program("mosquitto")), "-c", str(path)])
    wait_accepting(stage, tcp, pid)
    return Broker(tcp, unix, pid)


def start_target(stage: Stage, name: str, broker: Broker, options: Options) -> Target:
    """Start the target of that name (TARGETS) and wait until a client is accepted through it."""
    require(PROGRAMS.get(name, ()))
    target = TARGETS[name](stage, name, broker, options)
    wait_accepting(stage, target.port, target.pid)
    return target


def start_gateway(stage: Stage, broker: Broker, tidegate: tuple[str, ...], policy: str, workers: int = 1) -> Target:
    """A Tidegate with this policy, which reaches the broker by its Unix socket."""
    return start_target(stage, "tidegate-unix", broker, Options(tidegate=tidegate, workers=workers, policy=policy))


def wait_accepting(stage: Stage, port: int, pid: int) -> None:
    """Return when a client is accepted on the port; exits with the process's log when none is in time."""
    try:
        wait_for_connack(port, START_SECONDS, lambda: stage.is_running(pid))
    except Refused as error:
        sys.exit(f"no client is accepted ({START_SECONDS:.0f} s are allowed): {error}\n{stage.log_tail(pid)}")


def _by(name: str) -> str:
    return "unix" if name.endswith("-unix") else "tcp"


def _direct(_stage: Stage, name: str, broker: Broker, _options: Options) -> Target:
    return Target(name, broker.tcp, broker.pid)


def _nginx(stage: Stage, name: str, broker: Broker, options: Options) -> Target:
    (port,) = free_ports(1)
    path = stage.folder / "nginx.conf"
    path.write_text(
        NGINX.format(
            module=NGINX_STREAM,
            folder=stage.folder,
            descriptors=2 * options.connections,
            port=port,
            upstream=broker.tcp,
        )
    )
    return Target(name, port, stage.start(name, [str(program("nginx")), "-c", str(path)]))


def _haproxy(stage: Stage, name: str, broker: Broker, options: Options) -> Target:
    (port,) = free_ports(1)
    upstream = f"unix@{broker.unix}" if _by(name) == "unix" else f"127.0.0.1:{broker.tcp}"
    path = stage.folder / f"{name}.cfg"
    path.write_text(
        HAPROXY.format(connections=options.connections, port=port, upstream=upstream, rules=options.haproxy_rules)
    )
    return Target(name, port, stage.start(name, [str(program("haproxy")), "-f", str(path)]))


def _relay(stage: Stage, name: str, broker: Broker, _options: Options) -> Target:
    (port,) = free_ports(1)
    module = ["-m", "benchmarks.relay_floor", "--listen", str(port), "--upstream", broker.url(_by(name))]
    return Target(name, port, stage.start(name, [sys.executable, *module], folder=ROOT))


def _tidegate(stage: Stage, name: str, broker: Broker, options: Options) -> Target:
    port, admin = free_ports(2)
    path = stage.folder / f"{name}.toml"
    path.write_text(
        TIDEGATE.format(
            port=port,
            admin=admin,
            upstream=broker.url(_by(name)),
            workers=options.workers,
            folder=stage.folder,
            name=name,
            extra=options.gateway_keys,
            policy=options.policy or policy_text(options.limits),
        )
    )
    try:
        pid = stage.start(name, [*options.tidegate, "serve", "-c", str(path)])
    except FileNotFoundError:
        sys.exit(f"no {options.tidegate[0]}: build it (`make bench` does) or give --tidegate-command")
    return Target(name, port, pid, admin, path)


TARGETS: dict[str, Callable[[Stage, str, Broker, Options], Target]] = {
    "direct": _direct,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "haproxy-unix": _haproxy,
    "tidegate": _tidegate,
    "tidegate-unix": _tidegate,
    "relay-tcp": _relay,
    "relay-unix": _relay,
}
"""By name; those that end in -unix reach the broker by its Unix socket, the others by TCP."""
PROGRAMS = {"nginx": ("nginx", "nginx-stream"), "haproxy": ("haproxy",), "haproxy-unix": ("haproxy",)}
"""What a target needs on the machine."""
YARDSTICKS = ("direct", "nginx", "haproxy", "haproxy-unix")
COMPARED = (*YARDSTICKS, "tidegate", "tidegate-unix")
