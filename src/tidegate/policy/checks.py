"""What must hold between keys that are each valid alone."""

from collections.abc import Callable, Iterator

from .problems import BadValue, Finding, Path
from .schema import Tables
from .units import size_text

Check = Callable[[Tables], Iterator[Finding]]

_LISTEN: Path = ("gateway", "listen")


def _open_to_all(tables: Tables) -> Iterator[Finding]:
    if tables.gateway.broker is not None:
        return
    for number, address in enumerate(tables.gateway.listen):
        if not address.is_loopback:
            yield (
                (*_LISTEN, number),
                BadValue(
                    "reachable beyond this host, where the embedded Mosquitto would ask nobody for a password",
                    f"listen on 127.0.0.1:{address.port}, or set gateway.broker to a broker that asks",
                ),
            )


def _listen_twice(tables: Tables) -> Iterator[Finding]:
    listen = tables.gateway.listen
    for number, address in enumerate(listen):
        for earlier in listen[:number]:
            if address.clashes(earlier):
                text = "listed twice" if address == earlier else f'already taken by "{earlier}"'
                yield (*_LISTEN, number), BadValue(text, "remove one of the two")
                break


def _listen_to_itself(tables: Tables) -> Iterator[Finding]:
    broker = tables.gateway.broker
    if broker is None:
        return
    for number, address in enumerate(tables.gateway.listen):
        # A listener on every address clashes with a broker on this host, not with one elsewhere.
        if address != broker and not (address.clashes(broker) and broker.is_loopback):
            continue
        if "listen" in tables.gateway.model_fields_set:
            yield (
                (*_LISTEN, number),
                BadValue(f'the gateway would be its own broker, "{broker}"', "choose another port"),
            )
        else:
            yield (
                ("gateway", "broker"),
                BadValue(
                    "the gateway itself listens there by default",
                    f'set gateway.listen, for instance "tcp://127.0.0.1:{address.port + 1}"',
                ),
            )


def _admin_on_listener(tables: Tables) -> Iterator[Finding]:
    admin = tables.admin.listen
    for number, address in enumerate(tables.gateway.listen):
        if not address.clashes(admin):
            continue
        if "listen" in tables.admin.model_fields_set:
            text = f'already taken by "{address}" of gateway.listen'
            yield ("admin", "listen"), BadValue(text, "choose another port, for instance 9884")
        else:
            text = f'already taken by admin.listen, by default "{admin.place}"'
            yield (*_LISTEN, number), BadValue(text, "choose another port, or set admin.listen")


def _admin_without_token(tables: Tables) -> Iterator[Finding]:
    if not tables.admin.listen.is_loopback and tables.admin.token_file is None:
        yield (
            ("admin", "listen"),
            BadValue("reachable beyond this host, but without a token", "set admin.token_file, or listen on 127.0.0.1"),
        )


def _hold_beyond_pool(tables: Tables) -> Iterator[Finding]:
    gateway = tables.gateway
    if gateway.hold_bytes > gateway.hold_pool:
        pool = size_text(gateway.hold_pool)
        yield (
            ("gateway", "hold_bytes"),
            BadValue(
                f"more than gateway.hold_pool, the {pool} that all connections of a worker share",
                f'write at most "{pool}", or a larger hold_pool',
            ),
        )


def _connect_beyond_packet(tables: Tables) -> Iterator[Finding]:
    gateway = tables.gateway
    if gateway.max_connect > gateway.max_packet and "max_connect" in gateway.model_fields_set:
        packet = size_text(gateway.max_packet)
        yield (
            ("gateway", "max_connect"),
            BadValue(
                f"more than gateway.max_packet, {packet}, which holds for every packet",
                f'write at most "{packet}", or a larger max_packet',
            ),
        )


CHECKS: tuple[tuple[frozenset[Path], Check], ...] = (
    (frozenset({_LISTEN, ("gateway", "broker")}), _open_to_all),
    (frozenset({_LISTEN}), _listen_twice),
    (frozenset({_LISTEN, ("gateway", "broker")}), _listen_to_itself),
    (frozenset({_LISTEN, ("admin", "listen")}), _admin_on_listener),
    (frozenset({("admin", "listen"), ("admin", "token_file")}), _admin_without_token),
    (frozenset({("gateway", "hold_bytes"), ("gateway", "hold_pool")}), _hold_beyond_pool),
    (frozenset({("gateway", "max_connect"), ("gateway", "max_packet")}), _connect_beyond_packet),
)
"""The keys that a check looks at, and the check: it is left out when one of them is wrong by itself."""
