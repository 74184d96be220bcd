import pytest

from tidegate.policy.stages import Stage, awaited, decided_at_accept, stage_of
from unit.policy.reading import settings_of

CLASSES = """\
[class.office]
cidr = "10.0.0.0/8"
listener = "tcp://127.0.0.1:1883"
[class.home]
any = [{ cidr = "192.168.0.0/16" }, { listener = "tcp://127.0.0.1:1883" }]
[class.plc]
username = "plc-*"
cidr = "10.0.0.0/8"
[class.guest]
any = [{ cidr = "192.0.2.0/24" }, { client_id = "{kind}-*" }]
[class.five]
version = "5"
"""


def awaited_by(keys: str) -> list[str]:
    policy = settings_of(f'{CLASSES}[[limit]]\nname = "x"\non = "connect"\n{keys}\n').policy
    (limit,) = policy.limits
    classes = {one.name: one for one in policy.classes}
    found = [*awaited(limit, classes)]
    assert stage_of(limit, classes) == (Stage.LATE if found else Stage.EARLY)
    assert decided_at_accept(policy) == ([] if found else [limit])
    return found


@pytest.mark.parametrize(
    "keys",
    [
        'rate = "1/s"',
        "concurrent = 5",
        'rate = "1/s"\nper = "all"',
        'rate = "1/s"\nper = ["ip/24/56", "listener"]',
        'rate = "1/s"\ncidr = "10.0.0.0/8"\nlistener = "tcp://127.0.0.1:1883"',
        'rate = "1/s"\nclass = ["office", "!home"]',
        'rate = { default = "1/s", office = "9/s" }\nconcurrent = { default = 5, home = "none" }',
    ],
)
def test_what_the_address_and_the_listener_say_is_decided_at_accept(keys: str) -> None:
    assert awaited_by(keys) == []


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ('rate = "1/s"\nper = ["client", "ip"]', ['per "client"']),
        ('rate = "1/s"\nper = ["ip", "username", "kind"]', ['per "username"', 'per "kind"']),
        ('rate = "1/s"\nper = ["ip", "class"]', ['per "class"']),
        ('rate = "1/s"\nusername = "a*"', ["client_id or username"]),
        ('rate = "1/s"\nclient_id = "a*"', ["client_id or username"]),
        ('rate = "1/s"\nclass = ["office", "plc", "!guest"]', ["class plc", "class guest"]),
        ('rate = { default = "1/s", plc = "9/s" }\nconcurrent = { five = 5 }', ["class plc", "class five"]),
        ('rate = { default = "1/s", plc = "9/s" }\nclass = "plc"', ["class plc"]),
        ('size = "1KiB"', ["the size of its packet"]),
        ('rate = "1/s"\nper = "all"\nsize = "1KiB"', ["the size of its packet"]),
    ],
)
def test_what_only_connect_says_is_waited_for(keys: str, found: list[str]) -> None:
    assert awaited_by(keys) == found
