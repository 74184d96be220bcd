"""Policies written as text, for these tests."""

import pytest

from tidegate.policy.model import Limit
from tidegate.policy.problems import SettingsError
from tidegate.policy.settings import Settings, check
from tidegate.policy.toml import parse

CLASSES = """\
[class.a]
client_id = "a-*"
[class.b]
username = "{tenant}:*"
[class.free]
cidr = "10.0.0.0/8"
exempt = true
"""


def settings_of(text: str) -> Settings:
    """The settings that a file t.toml of this text has."""
    return check(parse(text.encode(), "t.toml"))


def errors_in(text: str) -> list[str]:
    """All that is told of it, without the file's name."""
    with pytest.raises(SettingsError) as raised:
        settings_of(text)
    return [line.removeprefix("t.toml:") for line in str(raised.value).splitlines()]


def limit_of(keys: str, classes: str = CLASSES) -> Limit:
    """The limit with a name and these keys."""
    (limit,) = settings_of(f'{classes}[[limit]]\nname = "x"\n{keys}\n').policy.limits
    return limit


def limit_errors(keys: str, classes: str = CLASSES) -> list[str]:
    """What is told of it, without the line: each is in its own key."""
    return [line.partition(": ")[2] for line in errors_in(f'{classes}[[limit]]\nname = "x"\n{keys}\n')]
