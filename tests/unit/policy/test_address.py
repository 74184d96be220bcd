import pytest

from tidegate.policy.address import Address
from tidegate.policy.problems import BadValue


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:1883", Address("tcp", "127.0.0.1", 1883)),
        ("tcp://Broker.example:0", Address("tcp", "broker.example", 0)),
        ("TCP://my_service:65535", Address("tcp", "my_service", 65535)),
        ("tcp://[::1]:1883", Address("tcp", "::1", 1883)),
        ("tcp://[2001:DB8:0::1]:1883", Address("tcp", "2001:db8::1", 1883)),
        ("tcp://[fe80::1%eth0]:1883", Address("tcp", "fe80::1%eth0", 1883)),
        ("unix:/run/x.sock", Address("unix", path="/run/x.sock")),
        ("unix:/" + "x" * 106, Address("unix", path="/" + "x" * 106)),
    ],
)
def test_addresses_and_their_text(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


WRONG = [
    ("tls://h:1", "tls:// is not supported yet; use tcp:// or unix:"),
    ("wss://h:1/mqtt", "wss:// is not supported yet; use tcp:// or unix:"),
    ("ws://h:1", "ws:// is not supported yet; use tcp:// or unix:"),
    ("http://h:1", "there is no http://; use tcp:// or unix:"),
    ("mqtt://h:1", 'an address without its kind; write "tcp://h:1"'),
    ("h:1", 'an address without its kind; write "tcp://h:1"'),
    ("/run/x", 'an address without its kind; write "unix:/run/x"'),
    ("tcp://u:p@h:1", "no user or password belongs here; leave them out: clients bring their own"),
    ("tcp://h", "there is no port; write host:port, for instance 127.0.0.1:1883"),
    ("tcp://[::1]", "there is no port; write host:port, for instance 127.0.0.1:1883"),
    ("", "there is no port; write host:port, for instance 127.0.0.1:1883"),
    ("tcp://:1883", "there is no host; write 127.0.0.1 for this host alone, 0.0.0.0 for every IPv4 address"),
    ("tcp://::1:1883", "an IPv6 address needs brackets; write [address]:port, for instance [::1]:1883"),
    ("tcp://[x]:1", "what is in brackets is not an IPv6 address; write for instance [::1]:1883"),
    ("tcp://[fe80::1%e h]:1", "what is in brackets is not an IPv6 address; write for instance [::1]:1883"),
    ("tcp://1.2.3:1", "the host is not an IPv4 address; write four numbers up to 255, without leading zeros"),
    ("tcp://256.1.1.1:1", "the host is not an IPv4 address; write four numbers up to 255, without leading zeros"),
    ("tcp://a b:1", "the host is neither a name nor an address; write a name, an IPv4 or an [IPv6] address"),
    ("tcp://-a:1", "the host is neither a name nor an address; write a name, an IPv4 or an [IPv6] address"),
    *[
        (f"tcp://h:{port}", "the port is not a number up to 65535; write host:port, for instance 127.0.0.1:1883")
        for port in ("65536", "x", "", "-1", "000001", "\uff11")
    ],
    ("tcp://h:1/x", "the port is not a number up to 65535; write host:port, for instance 127.0.0.1:1883"),
    ("unix:///run/x", 'a path begins with one slash; write "unix:/run/x"'),
    ("unix:x", 'the path is not absolute; write the whole path, for instance "unix:/run/mosquitto/mqtt.sock"'),
    ("unix:/", 'the path names no file; write for instance "unix:/run/mosquitto/mqtt.sock"'),
    ("unix:/a\0b", 'the path names no file; write for instance "unix:/run/mosquitto/mqtt.sock"'),
    (
        "unix:/" + "é" * 54,
        "the path of a Unix socket has at most 107 bytes, this one 109; choose a shorter one, for instance under /run",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_addresses(text: str, message: str) -> None:
    with pytest.raises(BadValue) as raised:
        Address.parse(text)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("unix:/x", True),
        ("tcp://127.1.2.3:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://LOCALHOST:1", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://example.com:1", False),
        ("tcp://localhost.example.com:1", False),
    ],
)
def test_loopback(text: str, loopback: bool) -> None:
    assert Address.parse(text).is_loopback is loopback


@pytest.mark.parametrize(
    ("one", "another", "clash"),
    [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", True),
        ("tcp://127.0.0.1:1", "tcp://localhost:1", True),
        ("tcp://0.0.0.0:1", "tcp://10.0.0.1:1", True),
        ("tcp://0.0.0.0:1", "tcp://localhost:1", True),
        ("tcp://[::]:1", "tcp://[::1]:1", True),
        ("tcp://[::]:1", "tcp://0.0.0.0:1", False),
        ("tcp://0.0.0.0:1", "tcp://[::1]:1", False),
        ("tcp://0.0.0.0:1", "tcp://name:1", False),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", False),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", False),
        ("unix:/a/../b", "unix:/b", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "tcp://127.0.0.1:1", False),
    ],
)
def test_clashes(one: str, another: str, clash: bool) -> None:
    assert Address.parse(one).clashes(Address.parse(another)) is clash
    assert Address.parse(another).clashes(Address.parse(one)) is clash
