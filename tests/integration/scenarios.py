"""What a client can see of a broker, as scenarios that run with any library, version and port.

Each is one conversation; the order of its notes is fixed by waiting for every answer. "Nothing more came" is shown
by a last message that is seen next, never by waiting in vain. Markers say who can play a scenario.
"""

from collections.abc import Callable
from dataclasses import dataclass

from support import wire
from support.cast import Actor, Cast
from support.client import Will


@dataclass(frozen=True)
class Scenario:
    """A named conversation."""

    name: str
    play: Callable[[Cast], None]
    since: int = wire.V31
    """The first version that has what it shows."""
    needs: frozenset[str] = frozenset()
    """What not every library can do: "ping" (tell PINGRESPs), "reason" (give a DISCONNECT one), "overrun" (bear more at
    once than it has said it would take)."""


SCENARIOS: list[Scenario] = []


def scenario(*needs: str, since: int = wire.V31) -> Callable[[Callable[[Cast], None]], Callable[[Cast], None]]:
    """Enter a function into the table under its own name."""

    def enter(play: Callable[[Cast], None]) -> Callable[[Cast], None]:
        SCENARIOS.append(Scenario(play.__name__, play, since, frozenset(needs)))
        return play

    return enter


FENCE = "fence"


def fenced(cast: Cast, sender: Actor, receiver: Actor, topic: str) -> None:
    """Note every message that `receiver` got up to a fence that `sender` now sends on `topic`."""
    sender.publish(topic, FENCE, 1)
    got = receiver.messages_up_to(FENCE)
    cast.note(receiver.name, "up to the fence", tuple(got))


@scenario()
def connect_and_leave(cast: Cast) -> None:
    cast.actor("a").connect().disconnect()


@scenario()
def every_qos_both_ways(cast: Cast) -> None:
    sender = cast.actor("sender").connect()
    for granted in (0, 1, 2):
        receiver = cast.actor(f"receiver{granted}").connect()
        receiver.subscribe(cast.topic(f"q{granted}"), granted)
        for qos in (0, 1, 2):
            sender.publish(cast.topic(f"q{granted}"), f"sent at {qos}", qos)
            receiver.expect()


@scenario()
def many_in_order(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("#"), 2)
    for qos in (0, 1, 2):
        for number in range(20):
            sender.publish(cast.topic("t"), f"{number}", qos)
        receiver.expect(20)


@scenario()
def nobody_subscribed(cast: Cast) -> None:
    sender = cast.actor("sender").connect()
    sender.publish(cast.topic("nobody"), "1", 1)
    sender.publish(cast.topic("nobody"), "2", 2)


@scenario()
def persistent_session(cast: Cast) -> None:
    first = cast.lasting("sleeper", clean=True) if cast.v5 else cast.lasting("sleeper")
    first.connect().subscribe(cast.topic("queue/#"), 2)
    first.disconnect()
    sender = cast.actor("sender").connect()
    for qos in (0, 1, 2, 1):
        sender.publish(cast.topic(f"queue/{qos}"), f"while away, {qos}", qos)
    second = cast.lasting("sleeper").connect()
    second.expect_unordered(3)  # QoS 0 is not queued
    fenced(cast, sender, second, cast.topic("queue/1"))
    second.disconnect()
    cast.actor("sleeper", clean=True).connect().disconnect()
    third = cast.lasting("sleeper").connect()
    third.disconnect()
    cast.actor("sleeper", clean=True).connect().disconnect()


@scenario()
def session_survives_a_cut(cast: Cast) -> None:
    first = cast.lasting("sleeper").connect()
    first.subscribe(cast.topic("t"), 1)
    first.cut()
    sender = cast.actor("sender").connect()
    sender.publish(cast.topic("t"), "while away", 1)
    second = cast.lasting("sleeper").connect()
    second.expect()
    second.disconnect()
    cast.actor("sleeper", clean=True).connect().disconnect()


@scenario()
def will_after_a_cut(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("will/#"), 2)
    for qos in (0, 1, 2):
        dying = cast.actor(f"dying{qos}", will=Will(topic=cast.topic(f"will/{qos}"), qos=qos)).connect()
        dying.cut()
        watcher.expect()


@scenario()
def retained_will(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("will"), 1)
    cast.actor("dying", will=Will(topic=cast.topic("will"), retain=True)).connect().cut()
    watcher.expect()
    late = cast.actor("late").connect()
    late.subscribe(cast.topic("will"), 1)
    late.expect()
    late.publish(cast.topic("will"), "", 1, retain=True)
    watcher.expect()


@scenario()
def no_will_after_disconnect(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("#"), 1)
    cast.actor("leaving", will=Will(topic=cast.topic("will"))).connect().disconnect()
    fenced(cast, cast.actor("sender").connect(), watcher, cast.topic("fence"))


@scenario("reason", since=wire.V5)
def will_with_disconnect(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("will"), 1)
    cast.actor("leaving", will=Will(topic=cast.topic("will"))).connect().disconnect(0x04)
    watcher.expect()


@scenario(since=wire.V5)
def delayed_will(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("#"), 1)
    will = Will(topic=cast.topic("will"), properties={"WillDelayInterval": 1})
    cast.lasting("dying", will=will).connect().cut()
    # Until the delay is over other messages come first.
    fenced(cast, cast.actor("sender").connect(), watcher, cast.topic("fence"))
    watcher.expect()
    cast.actor("dying", clean=True).connect().disconnect()


@scenario(since=wire.V5)
def delayed_will_called_off(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("#"), 1)
    will = Will(topic=cast.topic("will"), properties={"WillDelayInterval": 300})
    cast.lasting("dying", will=will).connect().cut()
    back = cast.lasting("dying").connect()
    back.disconnect()
    fenced(cast, cast.actor("sender").connect(), watcher, cast.topic("fence"))
    cast.actor("dying", clean=True).connect().disconnect()


@scenario(since=wire.V5)
def will_with_properties(cast: Cast) -> None:
    watcher = cast.actor("watcher").connect()
    watcher.subscribe(cast.topic("will"), 1)
    properties = {
        "ContentType": "text/plain",
        "PayloadFormatIndicator": 1,
        "ResponseTopic": cast.topic("answer"),
        "CorrelationData": b"\x00\x01\xff",
        "UserProperty": [("a", "1"), ("a", "2")],
    }
    cast.actor("dying", will=Will(topic=cast.topic("will"), properties=properties)).connect().cut()
    watcher.expect()


@scenario()
def retained(cast: Cast) -> None:
    sender = cast.actor("sender").connect()
    for name in ("a", "b", "c"):
        sender.publish(cast.topic(f"r/{name}"), f"first {name}", 1, retain=True)
    sender.publish(cast.topic("r/b"), "second b", 0, retain=True)
    sender.publish(cast.topic("r/c"), "", 1, retain=True)
    for name in ("a", "b", "c"):
        receiver = cast.actor(f"receiver-{name}").connect()
        receiver.subscribe(cast.topic(f"r/{name}"), 1)
        fenced(cast, sender, receiver, cast.topic(f"r/{name}"))
    for name in ("a", "b"):
        sender.publish(cast.topic(f"r/{name}"), "", 1, retain=True)


@scenario(since=wire.V5)
def subscription_options(cast: Cast) -> None:
    sender = cast.actor("sender").connect()
    sender.publish(cast.topic("t"), "kept", 1, retain=True)
    for handling in (0, 1, 2):
        receiver = cast.actor(f"handling{handling}").connect()
        for _ in range(2):
            receiver.subscribe(cast.topic("t"), 1, {"retainHandling": handling, "retainAsPublished": True})
        sender.publish(cast.topic("t"), "as published", 1, retain=True)
        fenced(cast, sender, receiver, cast.topic("t"))
        sender.publish(cast.topic("t"), "kept", 1, retain=True)
    echo = cast.actor("echo").connect()
    echo.subscribe(cast.topic("own"), 1, {"noLocal": True})
    echo.publish(cast.topic("own"), "not for me", 1)
    fenced(cast, sender, echo, cast.topic("own"))
    sender.publish(cast.topic("t"), "", 1, retain=True)


@scenario()
def shared_subscription(cast: Cast) -> None:
    sender = cast.actor("sender").connect()
    members = [cast.actor(f"member{number}").connect() for number in range(2)]
    for member in members:
        member.subscribe(f"$share/{cast.prefix}/{cast.topic('work/#')}", 1)
        member.subscribe(cast.topic("fence"), 1)
    for number in range(20):
        sender.publish(cast.topic("work/t"), f"{number:02d}", 1)
    sender.publish(cast.topic("fence"), FENCE, 1)
    got = [tuple(member.messages_up_to(FENCE)) for member in members]
    cast.note("members", "both had work", all(got))
    cast.note("members", "together", tuple(sorted(record for part in got for record in part)))


@scenario(since=wire.V5)
def topic_alias(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("#"), 2)
    for qos in (0, 1, 2):
        sender.publish(cast.topic(f"alias/{qos}"), "named", qos, TopicAlias=qos + 1)
    for qos in (0, 1, 2):
        sender.publish("", "by number", qos, TopicAlias=qos + 1, UserProperty=[("k", "v")])
    receiver.expect_unordered(6)
    sender.publish(cast.topic("alias/other"), "renamed", 1, TopicAlias=1)
    sender.publish("", "by its new name", 1, TopicAlias=1)
    receiver.expect(2)


@scenario(since=wire.V5)
def offered_aliases_are_not_needed(cast: Cast) -> None:
    sender = cast.actor("sender").connect()
    receiver = cast.actor("receiver", properties={"TopicAliasMaximum": 5}).connect()
    receiver.subscribe(cast.topic("#"), 1)
    for number in range(4):
        sender.publish(cast.topic("t"), f"{number}", 1)
    receiver.expect(4)


@scenario(since=wire.V5)
def request_and_response(cast: Cast) -> None:
    asking, answering = cast.actor("asking").connect(), cast.actor("answering").connect()
    answering.subscribe(cast.topic("request"), 1)
    asking.subscribe(cast.topic("answer"), 1)
    asking.publish(cast.topic("request"), "?", 1, ResponseTopic=cast.topic("answer"), CorrelationData=b"\x00 7\xff")
    answering.expect()
    answering.publish(cast.topic("answer"), "!", 1, CorrelationData=b"\x00 7\xff")
    asking.expect()


@scenario(since=wire.V5)
def properties_arrive(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("t"), 2)
    for qos in (0, 1, 2):
        sender.publish(
            cast.topic("t"),
            "ü",
            qos,
            ContentType="text/plain; charset=utf-8",
            PayloadFormatIndicator=1,
            UserProperty=[("b", "1"), ("a", "2"), ("b", "3"), ("", "")],
        )
        receiver.expect()


@scenario(since=wire.V5)
def message_expiry(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("t"), 1)
    sender.publish(cast.topic("t"), "short-lived", 1, MessageExpiryInterval=300)
    (_, _, payload, _, _, properties) = receiver.client.message()
    left = dict(properties)["MessageExpiryInterval"]
    cast.note("receiver", payload, "has seconds left, at most those it had", 0 < left <= 300)


@scenario(since=wire.V5)
def subscription_identifiers(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("one/#"), 1, properties={"SubscriptionIdentifier": 1})
    receiver.subscribe(cast.topic("two"), 1, properties={"SubscriptionIdentifier": 268_435_455})
    sender.publish(cast.topic("one/t"), "1", 1)
    sender.publish(cast.topic("two"), "2", 1)
    receiver.expect(2)


@scenario()
def overlapping_subscriptions(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("o/#"), 0)
    receiver.subscribe(cast.topic("o/+"), 1)  # QoS 2 would be seen after a fence at QoS 1
    receiver.subscribe(cast.topic("o/t"), 1)
    receiver.subscribe(cast.topic("fence"), 1)
    sender.publish(cast.topic("o/t"), "once or more", 1)
    sender.publish(cast.topic("fence"), FENCE, 1)
    cast.note("receiver", "got", tuple(sorted(receiver.messages_up_to(FENCE))))


@scenario()
def unsubscribing(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("u/+"), 1)
    receiver.subscribe(cast.topic("fence"), 1)
    sender.publish(cast.topic("u/t"), "before", 1)
    receiver.expect()
    receiver.unsubscribe(cast.topic("u/+"))
    receiver.unsubscribe(cast.topic("never/subscribed"))
    sender.publish(cast.topic("u/t"), "after", 1)
    fenced(cast, sender, receiver, cast.topic("fence"))


@scenario()
def takeover(cast: Cast) -> None:
    first = cast.actor("first", client_id=f"{cast.prefix}-same").connect()
    second = cast.actor("second", client_id=f"{cast.prefix}-same").connect()
    first.closed()
    second.subscribe(cast.topic("t"), 1)
    second.publish(cast.topic("t"), "still here", 1)
    second.expect()


@scenario()
def takeover_of_a_session(cast: Cast) -> None:
    first = cast.lasting("first", client_id=f"{cast.prefix}-same").connect()
    first.subscribe(cast.topic("t"), 1)
    second = cast.lasting("second", client_id=f"{cast.prefix}-same").connect()
    first.closed()
    second.publish(cast.topic("t"), "to the same session", 1)
    second.expect()
    second.disconnect()
    cast.actor("third", client_id=f"{cast.prefix}-same").connect().disconnect()


@scenario()
def large_payloads(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("t"), 2)
    for qos, size in ((0, 100_000), (1, 65_536), (2, 200_000), (1, 1_000_000), (0, 0), (1, 127), (1, 16_383)):
        sender.publish(cast.topic("t"), bytes(range(256)) * (size // 256) + bytes(size % 256), qos)
        receiver.expect()


@scenario()
def small_window(cast: Cast) -> None:
    _fill_small_window(cast, 1)


@scenario("overrun")
def small_window_of_exchanges(cast: Cast) -> None:
    # Mosquitto 2.0.11 now and then begins a third exchange of QoS 2 before the first of two has ended.
    _fill_small_window(cast, 2)


def _fill_small_window(cast: Cast, qos: int) -> None:
    properties = {"ReceiveMaximum": 2} if cast.v5 else {}
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver", properties=properties).connect()
    receiver.subscribe(cast.topic("t"), 2)
    for number in range(20):
        sender.publish(cast.topic("t"), f"{number}", qos)
    receiver.expect(20)


@scenario(since=wire.V311)
def empty_client_id(cast: Cast) -> None:
    nameless = cast.actor("nameless", client_id="")
    reason, present, properties = nameless.client.connect()[1:]
    assigned = dict(properties).pop("AssignedClientIdentifier", None)
    others = tuple(pair for pair in properties if pair[0] != "AssignedClientIdentifier")
    nameless._note(("connack", reason, present, others))
    cast.note("nameless", "was given a name", bool(assigned))
    nameless.subscribe(cast.topic("t"), 1)
    nameless.publish(cast.topic("t"), "to myself", 1)
    nameless.expect()


@scenario("ping")
def keepalive(cast: Cast) -> None:
    idle = cast.actor("idle", keepalive=1).connect()
    idle.ping()


@scenario()
def broker_topics(cast: Cast) -> None:
    receiver = cast.actor("receiver").connect()
    receiver.subscribe("$SYS/broker/version", 1)
    receiver.expect()


@scenario()
def hash_does_not_match_broker_topics(cast: Cast) -> None:
    receiver = cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("#"), 0)
    sender = cast.actor("sender").connect()
    sender.publish(f"$other/{cast.prefix}", "hidden", 1)
    fenced(cast, sender, receiver, cast.topic("fence"))


@scenario("reason", since=wire.V5)
def disconnect_with_reasons(cast: Cast) -> None:
    for reason in (0x80, 0x98):
        cast.actor(f"leaving{reason}").connect().disconnect(reason)


@scenario()
def unicode_topics(cast: Cast) -> None:
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("größe/+/🌡"), 1)
    sender.publish(cast.topic("größe/Δ/🌡"), "21 °C", 1)
    receiver.expect()


@scenario()
def credentials(cast: Cast) -> None:
    """For a broker that wants user `plant` with password `secret`; another lets all of them in."""
    for name, username, password in (
        ("right", "plant", "secret"),
        ("wrong", "plant", "guess"),
        ("unknown", "nobody", "secret"),
        ("none", None, None),
    ):
        cast.actor(name, username=username, password=password).connect()


def playable(version: int, *cannot: str) -> list[Scenario]:
    """The scenarios for a version, without those that need what a library cannot do."""
    return [entry for entry in SCENARIOS if version >= entry.since and not entry.needs & set(cannot)]
