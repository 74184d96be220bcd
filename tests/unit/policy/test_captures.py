from ipaddress import ip_address

import pytest

from tidegate.policy.captures import capturing, possible_captures
from tidegate.policy.model import ClientClass
from unit.policy.reading import settings_of

CLASSES = """\
[class.plain]
client_id = "x-*"
[class.named]
username = "{tenant}:*"
[class.site]
client_id = "{site}-?"
cidr = "10.0.0.0/8"
listener = "tcp://127.0.0.1:1883"
[class.either]
version = "5"
any = [{ client_id = "{tenant}/*" }, { username = "{other}@*" }]
"""
INSIDE, OUTSIDE = ip_address("10.1.2.3"), ip_address("192.0.2.1")


@pytest.fixture(scope="module")
def classes() -> tuple[ClientClass, ...]:
    return settings_of(CLASSES).policy.classes


def test_only_some_capture(classes: tuple[ClientClass, ...]) -> None:
    assert [one.name for one in capturing(classes)] == ["named", "site", "either"]


@pytest.mark.parametrize(
    ("client_id", "username", "inside", "found"),
    [
        ("c", None, True, {}),
        ("c", "acme:u", True, {"tenant": "acme"}),
        ("hall-7", None, True, {"site": "hall"}),
        ("hall-7", None, False, {}),
        ("hall-77", None, True, {}),
        ("globex/1", None, True, {"tenant": "globex"}),
        ("globex/1", "acme:u", True, {"tenant": "globex"}),
        ("c", "u@home", True, {"other": "u"}),
    ],
)
def test_what_is_not_known_of_a_client_counts_as_fulfilled(
    classes: tuple[ClientClass, ...], client_id: str, username: str | None, inside: bool, found: dict[str, str]
) -> None:
    assert possible_captures(classes, client_id, username, INSIDE if inside else OUTSIDE) == found


def test_a_unix_socket_is_in_no_network(classes: tuple[ClientClass, ...]) -> None:
    assert possible_captures(classes, "hall-7", None, None) == {}


def test_nobody_has_a_certificate() -> None:
    classes = settings_of('[class.a]\ncn = "*"\nusername = "{tenant}:*"\n').policy.classes
    assert possible_captures(classes, "c", "acme:u", INSIDE) == {}
