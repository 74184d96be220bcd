"""What a budget is counted per: `per`."""

import re
from functools import partial

from .fields import Place
from .model import Key, KeyKind
from .patterns import KEY_WORDS, MAX_LEVELS
from .problems import BadValue
from .words import instead_of_value

MAX_KEYS = 8
"""Elements of one `per`."""

_PLAIN = {word: Key(KeyKind[word.upper()]) for word in KEY_WORDS}
_IP = re.compile(r"ip/([0-9]{1,3})(?:/([0-9]{1,3}))?")
_TOPIC = re.compile(r"topic/([0-9]{1,3})")


def read_per(value: object, place: Place) -> tuple[Key, ...]:
    """One key, or a list of them for each combination."""
    if not isinstance(value, list):
        return (_read_key(value, place),)
    if not 1 <= len(value) <= MAX_KEYS:
        raise BadValue(f"{len(value)} keys", f"name 1 to {MAX_KEYS}")
    keys: list[Key] = []
    for number, item in enumerate(value):
        here = place.at(number)
        key = here.read(_read_key, item)
        if key is not None and key in keys:
            here.wrong("listed twice", "remove one of the two")
        elif key == Key(KeyKind.ALL) and len(value) > 1:
            here.wrong("one budget for all, beside others", 'write "all" alone, or leave it out')
        keys.append(key)
    return tuple(keys)


def _read_key(value: object, place: Place) -> Key:
    known = (*KEY_WORDS, *(place.known.captures or ()))
    if not isinstance(value, str):
        raise BadValue("unknown value", partial(instead_of_value, value, known))
    if value in _PLAIN:
        return _PLAIN[value]
    if found := _IP.fullmatch(value):
        key = Key(KeyKind.IP, v4=int(found[1]), v6=int(found[2] or 64))
        if not (1 <= key.v4 <= 32 and 1 <= key.v6 <= 128):
            raise BadValue("out of range", 'write "ip/BITS4/BITS6", up to 32 and 128, for instance "ip/24/56"')
        return key
    if found := _TOPIC.fullmatch(value):
        if not 1 <= int(found[1]) <= MAX_LEVELS:
            raise BadValue("out of range", f'write "topic/1" to "topic/{MAX_LEVELS}", or "topic" for all levels')
        return Key(KeyKind.TOPIC, levels=int(found[1]))
    if place.known.captures is None or value in place.known.captures:
        return Key(KeyKind.CAPTURE, capture=value)
    raise BadValue("unknown value", partial(instead_of_value, value, known))
