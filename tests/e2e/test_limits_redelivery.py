"""The gateway killed with -9 between the packets of QoS 2 exchanges, while a limit refuses what is redelivered.

A session that comes back sends again what was not acknowledged, with DUP. The broker may hold it already: dropping or
rejecting it then would leave an orphan at the broker, which counts against the client's window for ever. So it waits,
and who has waited for too long must come again.
"""

import signal
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.limited import Watcher, burst, login, metric, pubrels
from support.raw import CLOSED, RawClient

MakeGateway = Callable[..., Gateway]
LIMIT = """
[[limit]]
name = "scarce"
topic = "scarce/#"
rate = "{rate}"
on_excess = {action}
max_delay = "{max_delay}"
"""
SCARCE = "8/h burst 8"
AMPLE = "1000000/s burst 1000000"
# Messages of QoS 0 are delayed so that `max_delay` may be written; no test sends one too many of them.
REJECT = '{ qos0 = "delay", v3 = "drop", default = "reject" }'
DROP = '{ qos0 = "delay", default = "drop" }'
WINDOW = 20
"""Of Mosquitto's, by default: so many QoS 2 messages of a session wait for their PUBREL at most."""
LASTING = b"\x11\xff\xff\xff\xff"
"""Session Expiry Interval: never."""


class Session:
    """A client with one session over many connections."""

    def __init__(self, gateway: Gateway, version: int) -> None:
        self.gateway = gateway
        self.version = version
        self.client: RawClient | None = None
        self.present = False

    def come(self, *, spend: bool = True) -> RawClient:
        """Connect, and use up what a fresh gateway grants, so that the limit would refuse all that follows."""
        if self.client is not None:
            self.client.close()
        self.client = RawClient(self.gateway.port, self.version)
        flags, rest = login(None)
        props = LASTING if self.version == wire.V5 else b""
        connack = self.client.exchange(wire.connect(self.version, "session", flags=flags, rest=rest, props=props))
        assert wire.tell(connack, self.version) == f"CONNACK {'session ' if self.present else ''}0x00"
        self.present = True
        if spend:
            self.client.send(burst(self.version, "scarce/spent", 8, payload=b"spent"))
        return self.client

    def told(self) -> dict[int, str]:
        """Codes of the acknowledgements up to a fence, by identifier."""
        assert self.client is not None
        events = self.client.until_fence()
        assert events.pop() != CLOSED, events
        return {int(line.split()[2]): line.split()[3] for line in events}

    def answered(self, count: int) -> dict[int, str]:
        """Likewise of the next so many packets, which are waited for."""
        assert self.client is not None
        lines = []
        for _ in range(count):
            data = self.client.read()
            assert data is not None
            lines.append(wire.tell(data, self.version))
        return {int(line.split()[2]): line.split()[3] for line in lines}

    def kill(self) -> None:
        """What the client sees of it: the connection is gone, with all that it had not read."""
        assert self.gateway.process.stop(signal.SIGKILL) == -signal.SIGKILL
        self.gateway.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.client is not None:
            self.client.close()


def policy(action: str, rate: str = SCARCE, max_delay: str = "1h") -> str:
    """One limit on `scarce/#`."""
    return LIMIT.format(action=action, rate=rate, max_delay=max_delay)


def delivered(watcher: Watcher) -> Counter[int]:
    """How often each message came, by its number."""
    return Counter(int(payload) for _, payload in watcher.messages() if payload != b"spent")


def assert_no_orphans(session: Session, watcher: Watcher) -> None:
    """A whole window of fresh messages passes: nothing of the session is left at the broker."""
    client = session.client
    assert client is not None
    client.send(burst(session.version, "free", WINDOW, 2, first_id=1001))
    assert session.told() == dict.fromkeys(range(1001, 1001 + WINDOW), "0x00")
    client.send(pubrels(1001, WINDOW))
    assert session.told() == dict.fromkeys(range(1001, 1001 + WINDOW), "0x00")
    assert delivered(watcher) == dict.fromkeys(range(1001, 1001 + WINDOW), 1)


cases = pytest.mark.parametrize(
    ("version", "action"),
    [(wire.V311, DROP), (wire.V5, REJECT)],
    ids=["3.1.1 drop", "5 reject"],
)


@cases
def test_no_exchange_of_qos_2_is_torn_by_a_kill(
    make_gateway: MakeGateway, broker: Broker, version: int, action: str
) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1, tables=policy(action))
    gateway.start()
    with Session(gateway, version) as session, Watcher(broker, "scarce/#", "free") as watcher:
        # Killed when the broker had eight of them, the gateway had refused eight, and the client had seen no answer.
        client = session.come(spend=False)
        client.send(burst(version, "scarce/a", 16, 2))
        refused = "0x97" if action == REJECT else "0x00"
        assert session.told() == {**dict.fromkeys(range(1, 9), "0x00"), **dict.fromkeys(range(9, 17), refused)}
        session.kill()

        # All again, with DUP, though nothing is left of the budget: this gateway cannot know which of them the broker
        # holds, so that all wait until they may pass. They are the broker's from then on.
        client = session.come()
        client.send(burst(version, "scarce/a", 16, 2, dup=True))
        assert session.told() == {}
        assert metric(gateway, "tidegate_held_messages") == 16
        gateway.reload(policy(action, AMPLE))
        assert session.answered(16) == dict.fromkeys(range(1, 17), "0x00")
        gateway.reload(policy(action))
        session.kill()

        # Killed between PUBREC and PUBREL: the client releases what an earlier gateway had passed on.
        client = session.come()
        client.send(pubrels(1, 16))
        assert session.told() == dict.fromkeys(range(1, 17), "0x00")
        session.kill()

        # Killed between PUBREL and PUBCOMP: the client releases them once more, and nothing comes twice.
        client = session.come()
        client.send(pubrels(1, 16))
        assert set(session.told()) == set(range(1, 17))
        assert delivered(watcher) == dict.fromkeys(range(1, 17), 1)
        assert_no_orphans(session, watcher)
    gateway.stop()


@cases
def test_a_redelivery_that_waits_for_too_long_ends_its_connection(
    make_gateway: MakeGateway, broker: Broker, version: int, action: str
) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1, tables=policy(action, max_delay="200ms"))
    gateway.start()
    with Session(gateway, version) as session, Watcher(broker, "scarce/#", "free") as watcher:
        client = session.come(spend=False)
        client.send(burst(version, "scarce/a", 8, 2))
        assert session.told() == dict.fromkeys(range(1, 9), "0x00")
        session.kill()

        client = session.come()
        client.send(burst(version, "scarce/a", 8, 2, dup=True))
        assert client.until_closed() == (["DISCONNECT 0x96", CLOSED] if version == wire.V5 else [CLOSED])
        gateway.reload(policy(action, AMPLE))
        client = session.come(spend=False)
        client.send(burst(version, "scarce/a", 8, 2, dup=True))
        assert session.answered(8) == dict.fromkeys(range(1, 9), "0x00")
        client.send(pubrels(1, 8))
        assert session.told() == dict.fromkeys(range(1, 9), "0x00")
        assert delivered(watcher) == dict.fromkeys(range(1, 9), 1)
        assert_no_orphans(session, watcher)
    gateway.stop()


@cases
def test_exchanges_that_the_gateway_played_end_after_a_kill(
    make_gateway: MakeGateway, broker: Broker, version: int, action: str
) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1, tables=policy(action))
    gateway.start()
    with Session(gateway, version) as session, Watcher(broker, "scarce/#", "free") as watcher:
        client = session.come()
        client.send(burst(version, "scarce/a", WINDOW, 2))
        refused = "0x97" if action == REJECT else "0x00"
        assert session.told() == dict.fromkeys(range(1, WINDOW + 1), refused)
        session.kill()

        # Acknowledged and dropped: the client goes on with PUBREL, of which this gateway and the broker know nothing.
        # Rejected: it is over, and the identifiers carry new messages.
        client = session.come()
        if action == DROP:
            client.send(pubrels(1, WINDOW))
            assert set(session.told()) == set(range(1, WINDOW + 1))
        assert delivered(watcher) == {}
        client.send(burst(version, "free", WINDOW, 2))
        assert session.told() == dict.fromkeys(range(1, WINDOW + 1), "0x00")
        client.send(pubrels(1, WINDOW))
        assert session.told() == dict.fromkeys(range(1, WINDOW + 1), "0x00")
        assert delivered(watcher) == dict.fromkeys(range(1, WINDOW + 1), 1)
        assert_no_orphans(session, watcher)
    gateway.stop()
