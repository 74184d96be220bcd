"""What one client has subscribed to on this connection, as far as limits need to know it.

Kept are subscriptions that have taken places in windows, for as long as the broker has them, and shared ones
(`$share/NAME/FILTER`): what is delivered by those must not be dropped. What a session brought along is not known.
"""

from hashlib import blake2b

from ..mqtt.topics import matches, share_of
from .waiting import Waiting, places_of

SHARE = b"$share/"
"""A packet without these bytes has no shared subscription."""
MOST_SHARED = 100
"""Shared subscriptions of a client that are told apart; with more, whatever is delivered to it counts as shared."""
MOST_SHARED_TEXT = 16_384
"""Characters of their filters, likewise."""
MOST_KNOWN = 64
"""Topics lately asked for, whose answers are remembered."""
LONGEST_KNOWN = 256
"""Bytes of the longest of these."""
LONGEST_KEY = 64
"""Characters of a filter that is kept as it is; of a longer one a digest is kept, so that each takes as little."""

_Key = str | bytes


def key_of(topic_filter: str) -> _Key:
    """What stands for a filter, in few bytes."""
    if len(topic_filter) <= LONGEST_KEY:
        return topic_filter
    return blake2b(topic_filter.encode(), digest_size=16).digest()


class Kept:
    """One topic filter, from the SUBSCRIBE that goes to the broker until the broker no longer has it."""

    __slots__ = ("asked", "has", "key", "places")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.places: tuple[int, ...] = ()
        """Taken in windows; see `Engine.taken`."""
        self.asked = 0
        """SUBSCRIBEs on their way that name it."""
        self.has = False
        """The broker has granted it."""


class Subscriptions:
    """The subscriptions of one client.

    Their number is bounded by the limits that count them and by MOST_SHARED, whatever a client asks for.
    """

    def __init__(self, waiting: Waiting) -> None:
        self.shares = False
        """Whether it has shared subscriptions."""
        self._waiting = waiting
        self._all: dict[_Key, Kept] = {}
        self._shared: dict[_Key, str] = {}
        """The filters behind `$share/NAME/`."""
        self._shared_text = 0
        self._has_too_many = False
        """Of shared ones, so that not all of them are known; that lasts, as none knows which it has given up."""
        self._known: dict[bytes, bool] = {}

    def find(self, topic_filter: str) -> Kept | None:
        """The subscription with this filter, if it is known."""
        return self._all.get(key_of(topic_filter)) if self._all else None

    def counts(self, topic_filter: str) -> bool:
        """Whether it has places already, so that it takes none when it is repeated."""
        found = self.find(topic_filter)
        return found is not None and bool(found.places)

    def ask(self, topic_filter: str, taken: object) -> Kept | None:
        """A SUBSCRIBE with this filter goes to the broker, and has `taken` places (see `Engine.taken`).

        The subscription, whose answer is awaited from now on; None when nothing of it has to be known.
        """
        key = key_of(topic_filter)
        found = self._all.get(key)
        places = places_of(taken)
        group, behind = share_of(topic_filter)
        is_shared = group is not None and self._share(key, behind)
        if found is None:
            if not places and not is_shared:
                return None
            found = self._all[key] = Kept(key)
        found.places += places
        found.asked += 1
        return found

    def answered(self, one: Kept, granted: bool, now: float) -> None:
        """The broker has answered a SUBSCRIBE that names it, or the SUBSCRIBE never went there."""
        one.asked -= 1
        one.has = one.has or granted
        self._settle(one, now)

    def ended(self, one: Kept, now: float) -> None:
        """The broker has acknowledged UNSUBSCRIBE."""
        one.has = False
        self._settle(one, now)

    def is_shared(self, topic: bytes) -> bool:
        """Whether a shared subscription of its matches a topic: a look-up, or at most MOST_SHARED matches."""
        if not self.shares:
            return False
        if self._has_too_many:
            return True
        known = self._known.get(topic)
        if known is None:
            text = topic.decode()
            known = any(matches(one, text) for one in self._shared.values())
            if len(topic) <= LONGEST_KNOWN:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[topic] = known
        return known

    def close(self, now: float) -> None:
        """The connection has ended: all places are free."""
        for one in self._all.values():
            self._free(one, now)
        self._all.clear()
        self._waiting.wake_others()

    def _share(self, key: _Key, behind: str) -> bool:
        """Note a shared subscription to `behind`: whether it is told apart."""
        self.shares = True
        if key in self._shared:
            return True
        if len(self._shared) >= MOST_SHARED or self._shared_text + len(behind) > MOST_SHARED_TEXT:
            self._has_too_many = True
            return False
        self._shared[key] = behind
        self._shared_text += len(behind)
        self._known.clear()
        return True

    def _settle(self, one: Kept, now: float) -> None:
        if one.has or one.asked or self._all.get(one.key) is not one:
            return
        del self._all[one.key]
        behind = self._shared.pop(one.key, None)
        if behind is not None:
            self._shared_text -= len(behind)
            self._known.clear()
            self.shares = self._has_too_many or bool(self._shared)
        self._free(one, now)
        self._waiting.wake_others()

    def _free(self, one: Kept, now: float) -> None:
        self._waiting.give_back(one.places, now)
        one.places = ()
