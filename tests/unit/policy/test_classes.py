from ipaddress import ip_network

import pytest

from tidegate.policy.classes import captures
from tidegate.policy.model import ClientClass, Conditions, Priority
from unit.policy.reading import errors_in, settings_of


def class_of(keys: str) -> ClientClass:
    (one,) = settings_of(f"[class.x]\n{keys}\n").policy.classes
    return one


@pytest.mark.parametrize(
    ("keys", "conditions"),
    [
        ('client_id = ["a-*", "b-?"]', Conditions(client_id=("a-*", "b-?"))),
        ('username = "{tenant}:*"', Conditions(username=("{tenant}:*",))),
        (
            'cidr = ["10.0.0.0/8", "::1"]',
            Conditions(cidr=(ip_network("10.0.0.0/8"), ip_network("::1"))),
        ),
        ('listener = "tcp://127.0.0.1:1883"', Conditions(listener=("tcp://127.0.0.1:1883",))),
        ('cn = "plc-*"\nsan = "*.x"', Conditions(cn=("plc-*",), san=("*.x",))),
        ('version = ["3.1", "3.1.1", "5"]', Conditions(version=(3, 4, 5))),
        ("clean_start = false\nbridge = true", Conditions(clean_start=False, bridge=True)),
    ],
)
def test_conditions(keys: str, conditions: Conditions) -> None:
    assert class_of(keys) == ClientClass("x", conditions, line=1)


def test_the_other_keys() -> None:
    one = class_of('priority = "critical"\nexempt = true\nany = [{ username = "a" }, { bridge = true, version = "5" }]')
    assert (one.priority, one.exempt, one.all_of) == (Priority.CRITICAL, True, Conditions())
    assert one.any_of == (Conditions(username=("a",)), Conditions(bridge=True, version=(5,)))


def test_captures_of_a_class() -> None:
    one = class_of('client_id = ["{a}-{b}", "x"]\nany = [{ username = "{c}:*" }, { cn = "{a}" }]')
    assert captures(one) == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[class]\nx = 5", ["2: class.x = 5: not a table; write [class.NAME] in a line of its own, its keys below"]),
        (
            "[[class.x]]",
            ["1: [[class.x]]: not a table; write [class.NAME] in a line of its own, its keys below"],
        ),
        ("[class.x]", ['1: [class.x]: fits every client; say which, for instance client_id = "sensor-*"']),
        (
            "[class.x]\nexempt = true",
            ['1: [class.x]: fits every client; say which, for instance client_id = "sensor-*"'],
        ),
        (
            "[class.default]\nbridge = true",
            [
                "1: [class.default]: the name stands for all other classes where numbers differ by class; "
                "choose another name"
            ],
        ),
        (
            '[class."x.y"]\nbridge = true',
            ['1: [class."x.y"]: not a name for a class; use 1 to 64 letters, digits, _ and -'],
        ),
        (
            '[class.x]\nclientid = "a"\nrate = "1/s"\nbridge = true',
            [
                '2: class.x.clientid = "a": unknown key; did you mean `client_id`?',
                '3: class.x.rate = "1/s": unknown key; it belongs below [[limit]]',
            ],
        ),
        (
            '[class.x]\nclient_id = [\n"a",\n5,\n"{",\n]',
            [
                '4: class.x.client_id = 5: not text; write a pattern in quotes, for instance "sensor-*"',
                '5: class.x.client_id = "{": a brace that is no capture; '
                "write {name} for a capture, or ? for any one character",
            ],
        ),
        ("[class.x]\nversion = 3.1", ['2: class.x.version = 3.1: a version is text; write "3.1", "3.1.1" or "5"']),
        (
            '[class.x]\nversion = "3.11"',
            ['2: class.x.version = "3.11": unknown value; did you mean "3.1.1"?'],
        ),
        (
            "[class.x]\nlistener = 1883",
            [
                "2: class.x.listener = 1883: not an address; "
                'write for instance "tcp://0.0.0.0:1883", as gateway.listen does'
            ],
        ),
        (
            '[class.x]\nlistener = "tcp://0.0.0.0:1883"',
            [
                '2: class.x.listener = "tcp://0.0.0.0:1883": gateway.listen has no such address; '
                "it has tcp://127.0.0.1:1883"
            ],
        ),
        (
            '[class.x]\nbridge = true\npriority = "hihg"',
            ['3: class.x.priority = "hihg": unknown value; did you mean "high"?'],
        ),
        (
            "[class.x]\nany = { bridge = true }",
            [
                "2: class.x.any = {…}: not a list of tables; "
                'write for instance [{ client_id = "a-*" }, { bridge = true }]'
            ],
        ),
        ("[class.x]\nany = []", ["2: class.x.any = []: 0 alternatives; write 1 to 64"]),
        (
            "[class.x]\nany = [{},\n5,\n{ exempt = true }]",
            [
                '2: class.x.any = {…}: fits every client; write for instance { client_id = "a-*" }, or remove it',
                '3: class.x.any = 5: not a table; write for instance { client_id = "a-*" }',
                "4: class.x.any.exempt = true: unknown key; it belongs below [class.NAME]",
            ],
        ),
    ],
)
def test_what_is_wrong(text: str, told: list[str]) -> None:
    assert errors_in(text) == told
