"""The plugin in a real Mosquitto with TLS: classes by the common name of the client's certificate."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import wire
from support.limited import Watcher, burst, every_version, told, unique
from support.plugged import ROOMY, Plugged, plugged
from support.ports import free_port
from support.raw import CLOSED
from support.tls import BMP, Authority, TlsClient
from support.wait import until

CERTAIN = "require_certificate true"
NAMED = f"{CERTAIN}\nuse_identity_as_username true"
OPEN = "plugin_opt_authentication open\nplugin_opt_authorisation open"
POLICY = """
[class.plc]
cn = ["plc-*", "größer"]

[[limit]]
name = "plcs"
class = "plc"
topic = "t/#"
rate = "5/h burst 5"
on_excess = "reject"

[[limit]]
name = "others"
class = "!plc"
topic = "t/#"
rate = "2/h burst 2"
on_excess = "reject"
"""


@dataclass(frozen=True)
class Secured:
    """A broker with a port for TLS."""

    broker: Plugged
    authority: Authority
    port: int

    def join(self, identity: tuple[Path, Path] | None, version: int = wire.V311) -> TlsClient:
        """A client that the broker has accepted."""
        client = TlsClient(self.port, self.authority, identity, version)
        client.connect(unique("c"))
        return client

    def taken(self, identity: tuple[Path, Path] | None, version: int = wire.V311) -> int:
        """How many of ten messages of a new client the broker takes."""
        topic = unique("t/m")
        with Watcher(self.broker, topic) as watcher, self.join(identity, version) as client:
            client.send(burst(version, topic, 10))
            assert told(client) == []
            return len(watcher.messages())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextmanager
def secured(directory: Path, authority: Authority, lines: str, policy: str = POLICY) -> Iterator[Secured]:
    """`lines` are more of the listener for TLS; the other ones have none."""
    port = free_port()
    certificate, key = authority.server
    listener = f"listener {port} 127.0.0.1\ncafile {authority.certificate}\ncertfile {certificate}\nkeyfile {key}"
    with plugged(directory, policy, options=OPEN, extra=f"{ROOMY}\n{listener}\n{lines}") as broker:
        yield Secured(broker, authority, port)


@pytest.mark.parametrize("lines", [CERTAIN, NAMED], ids=["certain", "named"])
def test_a_class_by_common_name(tmp_path: Path, authority: Authority, lines: str) -> None:
    with secured(tmp_path / "b", authority, lines) as made:
        plc = authority.client("plc", "/O=Works/CN=plc-1/OU=Hall")
        assert [made.taken(plc, version) for version in (wire.V31, wire.V311, wire.V5)] == [5, 5, 5]
        assert made.taken(authority.client("umlaut", "/CN=größer")) == 5
        assert made.taken(authority.client("hmi", "/CN=hmi-1")) == 2
        assert made.taken(authority.client("almost", "/O=plc-1/CN=x-plc-1")) == 2


def test_common_names_that_are_no_user_names(tmp_path: Path, authority: Authority) -> None:
    with secured(tmp_path / "b", authority, CERTAIN) as made:
        assert made.taken(authority.client("wide", "/CN=größer", BMP)) == 5  # two bytes for each letter
        assert made.taken(authority.client("nameless", "/O=Works")) == 2


def test_without_require_certificate_nobody_is_asked_for_one(tmp_path: Path, authority: Authority) -> None:
    with secured(tmp_path / "b", authority, "require_certificate false") as made:
        assert made.taken(authority.client("plc", "/CN=plc-1")) == 2
        assert made.taken(None) == 2


def test_with_identity_as_username_a_certificate_is_a_user(tmp_path: Path, authority: Authority) -> None:
    policy = '[[limit]]\nname = "u"\nusername = "plc-*"\nper = "username"\nrate = "5/h burst 5"\non_excess = "reject"\n'
    with secured(tmp_path / "b", authority, NAMED, policy) as made:
        one, other = (authority.client(name, f"/CN={name}") for name in ("plc-1", "plc-2"))
        assert [made.taken(who) for who in (one, one, other)] == [5, 0, 5]
        assert made.taken(authority.client("hmi-1", "/CN=hmi-1")) == 10


def test_a_name_that_is_no_text_is_one_line_of_log(tmp_path: Path, authority: Authority) -> None:
    lines = f"{NAMED}\nuse_username_as_clientid true"
    evil = authority.client("evil", "/CN=plc-\n1: tidegate: 0 limits \u0085")
    with secured(tmp_path / "b", authority, lines) as made, TlsClient(made.port, authority, evil) as client:
        answer = client.exchange(wire.connect(wire.V311, ""))
        if wire.body_of(answer)[1] != 0:
            pytest.skip("this Mosquitto refuses such names")
        client.send(burst(wire.V311, "t/a", 10))
        assert told(client) == []
        made.broker.says(": tidegate: limit plcs: plc-?1: tidegate: 0 limits ?? is over it, topic t/a: rejected\n")


@every_version
def test_connections_are_limited_by_common_name(tmp_path: Path, authority: Authority, version: int) -> None:
    policy = (
        '[class.plc]\ncn = "plc-*"\n[[limit]]\nname = "c"\non = "connect"\nclass = "plc"\nper = ["class", "ip"]\n'
        'rate = "1/h burst 1"\non_excess = "drop"\n'
    )
    with secured(tmp_path / "b", authority, CERTAIN, policy) as made:
        plc, other = authority.client("plc", "/CN=plc-1"), authority.client("hmi", "/CN=hmi-1")
        made.join(plc, version).close()
        for _ in range(2):
            with TlsClient(made.port, authority, plc, version) as client:
                client.send(wire.connect(version, unique("c")))
                assert client.until_closed() == [CLOSED]
            made.join(other, version).close()


def ended(broker: Plugged) -> set[str]:
    """Clients will-N whose connection has ended, in the words of 2.0 or 2.1."""
    return set(re.findall(r"lient (will-\d)(?: closed| \[.*closed|:)", broker.log()))


@pytest.mark.parametrize("lines", [CERTAIN, NAMED], ids=["certain", "named"])
def test_wills_of_who_does_nothing_else(tmp_path: Path, authority: Authority, lines: str) -> None:
    policy = (
        '[class.plc]\ncn = "plc-*"\n[[limit]]\nname = "w"\non = "will"\nclass = "plc"\nper = ["class", "ip"]\n'
        'rate = "2/h burst 2"\non_excess = "drop"\n'
    )
    with secured(tmp_path / "b", authority, lines, policy) as made, Watcher(made.broker, "will/#") as watcher:
        plc, other = authority.client("plc", "/CN=plc-1"), authority.client("hmi", "/CN=hmi-1")
        for number, identity in enumerate((plc, plc, plc, plc, other), 1):
            with TlsClient(made.port, authority, identity) as client:
                client.connect(f"will-{number}", flags=0x06, rest=wire.field(f"will/{number}") + wire.field(""))
        until(lambda: len(ended(made.broker)) == 5, "the ends")
        seen = [topic for topic, _ in watcher.messages()]
        assert "will/5" in seen
        assert len(seen) == 3


def test_who_says_all_in_one_record_has_not_failed(tmp_path: Path, authority: Authority) -> None:
    policy = '[[limit]]\nname = "f"\non = "auth_failure"\nper = "ip"\nrate = "1/h burst 1"\non_excess = "ban"\n'
    with secured(tmp_path / "b", authority, "", policy) as made, Watcher(made.broker, "t") as watcher:
        for _ in range(4):
            with TlsClient(made.port, authority, None) as client:
                client.send(wire.connect(wire.V311, unique("c")) + burst(wire.V311, "t", 1) + wire.DISCONNECT)
                assert client.until_closed() == ["CONNACK 0x00", CLOSED]
        assert len(watcher.messages()) == 4
