"""The settings of tidegate.toml and their keys: the one source of validation and of docs/configuration.md.

Classes and limits are a language of their own: see `classes` and `limits`.

A key's default is written as the file would write it. None of these classes is made by hand: `settings.load` does.
"""

import pathlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from ..mqtt.connect import MOST_USER_PROPERTIES
from .address import Address
from .problems import Path
from .units import Duration, Size
from .values import (
    MAX_BUCKETS,
    MAX_HOLD_MESSAGES,
    MAX_LISTENERS,
    MAX_WAITING_ROOM,
    MAX_WORKERS,
    MIN_BUCKETS,
    TokenFile,
    read_address_list,
    read_admin_address,
    read_broker,
    read_buckets,
    read_hold_messages,
    read_listener,
    read_max_keepalive,
    read_segment,
    read_state_dir,
    read_token_file,
    read_waiting_room,
    read_workers,
)

PLANNED: dict[Path, str] = {
    ("alert",): "not enforced yet",
    ("gateway", "listener"): "not supported yet",
}
"""Tables that a later version will know. They are refused: nobody must believe that a limit holds."""


def _key(
    default: object, description: str, example: object, *, kind: str | None = None, absent: str | None = None
) -> Any:
    """A key. `kind`: what may be written, where the type does not tell; `absent`: what its absence means."""
    return Field(
        default=default,
        description=description,
        examples=[example],
        json_schema_extra={"kind": kind, "absent": absent},
    )


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", validate_default=True)


class GatewayTable(_Table):
    """Where clients connect, and what is behind."""

    listen: Annotated[
        tuple[Annotated[Address, PlainValidator(read_listener)], ...], BeforeValidator(read_address_list)
    ] = _key(
        ["tcp://127.0.0.1:1883"],
        "Where clients connect: `tcp://host:port` or `unix:/path`, an IPv6 address in brackets. `0.0.0.0` is every "
        "IPv4 and `[::]` every IPv6 address of this host; beyond it (other than 127.0.0.0/8, ::1, `localhost` or a "
        "Unix socket) only with a `broker`, as the embedded Mosquitto asks nobody for a password.",
        ["tcp://127.0.0.1:1884", "unix:/run/tidegate/mqtt.sock"],
        kind=f"address, or list of up to {MAX_LISTENERS}",
    )
    workers: Annotated[int, PlainValidator(read_workers)] = _key(
        1,
        'Processes that serve clients. `"auto"` is one per core.',
        "auto",
        kind=f'1 to {MAX_WORKERS}, or `"auto"`',
    )
    broker: Annotated[Address | None, PlainValidator(read_broker)] = _key(
        None,
        "The broker to protect: `tcp://host:port` or `unix:/path`; for one on this host, its Unix socket costs the "
        "least.",
        "unix:/run/mosquitto/mqtt.sock",
        kind="address",
        absent="a Mosquitto of our own; with `listen` absent too, a broker on 127.0.0.1:1883 if there is one",
    )
    state_dir: Annotated[pathlib.Path, PlainValidator(read_state_dir)] = _key(
        None,
        "What must outlive the process: the lock, bans, and the embedded broker's data. One gateway at a time has it.",
        "/var/lib/tidegate",
        kind="absolute path",
        absent="`$STATE_DIRECTORY` (systemd; the first of several), else `tidegate` in `$XDG_STATE_HOME` or "
        "`~/.local/state`",
    )
    connect_timeout: Annotated[float, PlainValidator(Duration("100ms", "10min"))] = _key(
        "5s", "How long a client may take from its connection to the end of its CONNECT packet.", "10s"
    )
    packet_timeout: Annotated[float, PlainValidator(Duration("1s", "1h"))] = _key(
        "30s",
        "How long a client may take, once it is connected, for the next 1,000 bytes of a packet that it has begun, or "
        "for the rest of it. The time in which it is not read, because others do not keep up, does not count.",
        "1min",
    )
    max_keepalive: Annotated[int, PlainValidator(read_max_keepalive)] = _key(
        None,
        "The longest keepalive that a client may ask for; one of 0, which is none, is longer than any. MQTT 5 clients "
        "are told to use this one instead (Server Keep Alive); others are refused with code 2, as newer "
        "versions of Mosquitto do.",
        "20min",
        kind='whole seconds, `"1s"` to `"18h"`',
        absent="any",
    )
    peer_timeout: Annotated[float, PlainValidator(Duration("5s", "1h"))] = _key(
        "5min",
        "How long a client's host may leave unacknowledged or untaken what is sent to it, before the client counts as "
        "gone (TCP_USER_TIMEOUT). One without a keepalive is also asked, by TCP, when it has long been silent "
        "(SO_KEEPALIVE).",
        "1min",
    )
    max_packet: Annotated[int, PlainValidator(Size("1KiB", "256MiB"))] = _key(
        "1MiB",
        "The largest packet that is taken from a client. A number without a unit is bytes; KiB, MiB, GiB count in "
        "1024, kB, MB, GB in 1000.",
        "64KiB",
    )
    max_connect: Annotated[int, PlainValidator(Size("1KiB", "1MiB"))] = _key(
        "64KiB",
        "The largest CONNECT that is taken, with its will; `max_packet` where that is smaller. It may have "
        f"{MOST_USER_PROPERTIES} user properties.",
        "8KiB",
    )
    buckets: Annotated[int, PlainValidator(read_buckets)] = _key(
        262144,
        "How many budgets (one for each limit and key in use) are kept, 16 bytes each; the memory is taken at start. "
        "Keys beyond a limit's share of it count together, as a crowd. Rounded up to a power of two.",
        1048576,
        kind=f"{MIN_BUCKETS} to {MAX_BUCKETS}",
    )
    segment: Annotated[pathlib.Path | None, PlainValidator(read_segment)] = _key(
        None,
        "A file that the limits' memory is to be, so that a plugin in Mosquitto (`plugin_opt_segment`) limits by the "
        "same budgets. Its user or group must be the broker's too. Every start makes it anew, and the end removes it.",
        "/dev/shm/tidegate",
        kind="absolute path",
        absent="memory without a name",
    )
    hold_messages: Annotated[int, PlainValidator(read_hold_messages)] = _key(
        1000,
        "How many messages of one connection may wait at a time under limits that delay. When they are so many, or "
        "`hold_bytes`, the client is not read, for at most `max_delay` or half its keepalive, the shorter of the two; "
        "what comes after that gets `then`. MQTT 5 clients are offered so much more Receive Maximum.",
        200,
        kind=f"1 to {MAX_HOLD_MESSAGES}",
    )
    hold_bytes: Annotated[int, PlainValidator(Size("64KiB", "256MiB"))] = _key(
        "1MiB", "How many bytes of one connection may wait likewise: of each message its packet, and 600.", "256KiB"
    )
    hold_pool: Annotated[int, PlainValidator(Size("1MiB", "16GiB"))] = _key(
        "64MiB",
        "How many bytes all connections of one worker together may have waiting. Beyond it the connection that has "
        "the most is closed.",
        "256MiB",
    )
    waiting_room: Annotated[int, PlainValidator(read_waiting_room)] = _key(
        1000,
        "How many connections of one worker may wait at a time for their turn under `connect` limits that delay. When "
        "they are so many, the last of the address that has the most of them gets `then`.",
        200,
        kind=f"0 to {MAX_WAITING_ROOM}",
    )
    drain_timeout: Annotated[float, PlainValidator(Duration("0s", "1h"))] = _key(
        "5s",
        "How long SIGTERM waits for connections to end in order, so that clients do not all return at once.",
        "30s",
    )


class AdminTable(_Table):
    """The endpoint with `/metrics`, `/healthz` and `/readyz`."""

    listen: Annotated[Address, PlainValidator(read_admin_address)] = _key(
        "127.0.0.1:9883",
        "Host and port of the admin endpoint. Beyond this host only with a `token_file`.",
        "0.0.0.0:9883",
        kind="`host:port`",
    )
    token_file: Annotated[TokenFile | None, PlainValidator(read_token_file)] = _key(
        None,
        "A file that holds the token which requests from beyond this host must show, as `Authorization: Bearer "
        "TOKEN`: one word of ASCII. It is read at start.",
        "/etc/tidegate/admin.token",
        kind="absolute path",
        absent="only this host is answered",
    )

    @property
    def token(self) -> str | None:
        """What requests from beyond this host must show; None shuts them out."""
        return None if self.token_file is None else self.token_file.token


class LogTable(_Table):
    """What is written to standard error."""

    format: Literal["text", "json"] = _key("text", "Lines for people, or an object a line for machines.", "json")
    level: Literal["debug", "info", "warning", "error"] = _key(
        "info", "The least important lines that are written.", "debug"
    )


class Tables(BaseModel):
    """All of tidegate.toml but classes and limits."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    gateway: GatewayTable
    admin: AdminTable
    log: LogTable
