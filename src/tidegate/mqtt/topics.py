"""Topic filters and what they match (sections 4.7 and 4.8.2)."""

from .errors import Fault, PacketError

_SHARE = "$share/"


def share_of(topic_filter: str) -> tuple[str | None, str]:
    """NAME and FILTER of `$share/NAME/FILTER`; None and the filter itself when it is not shared."""
    if not topic_filter.startswith(_SHARE):
        return None, topic_filter
    group, _, rest = topic_filter[len(_SHARE) :].partition("/")
    return group, rest


def asked_by(topic_filter: str) -> tuple[str | None, str]:
    """The same of what may be subscribed to in any version, as limits take it: without a FILTER it is not shared."""
    share, rest = share_of(topic_filter)
    return (share, rest) if rest else (None, topic_filter)


def check_filter(topic_filter: str, version: int = 5) -> None:
    """Raise PacketError unless this is a topic filter of `version`.

    3.x has no shared subscriptions: what begins with `$share/` is a filter like any other there, and what a broker
    makes of it is the broker's own (Mosquitto shares it, or takes it by the letter).
    """
    group, rest = share_of(topic_filter) if version == 5 else (None, topic_filter)
    if group is not None and (not group or "+" in group or "#" in group):
        raise PacketError(Fault.FILTER, "the share name of a topic filter is empty or holds a wildcard")
    if not rest:
        raise PacketError(Fault.FILTER, "a topic filter is empty")
    *parents, last = rest.split("/")
    if any("#" in level for level in parents) or ("#" in last and last != "#"):
        raise PacketError(Fault.FILTER, "# in a topic filter must be the whole of its last level")
    if any("+" in level and level != "+" for level in (*parents, last)):
        raise PacketError(Fault.FILTER, "+ in a topic filter must be the whole of its level")


def covers(topic_filter: str, other: str) -> bool:
    """Whether every topic that `other` matches is matched by `topic_filter`; both valid, without `$share/NAME/`."""
    if other.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    if other == "#":  # a topic has at least one level
        other = "+/#"
    wanted = topic_filter.split("/")
    levels = other.split("/")
    for i, want in enumerate(wanted):
        if want == "#":
            return True
        if i == len(levels) or levels[i] == "#" or want not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid filter, without its `$share/NAME/`, matches the topic name.

    A filter that begins with a wildcard matches no topic that begins with `$` (section 4.7.2).
    """
    if topic.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    for i, want in enumerate(wanted):
        if want == "#":  # also the parent level: a/# matches a
            return True
        if i == len(levels) or want not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)
