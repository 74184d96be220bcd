"""Whether a client may come in, on a given clock: limits on connecting, bans, guessing."""

from fractions import Fraction
from ipaddress import ip_network

import pytest

from support.limits import engine
from support.playbook import ADDRESS, Playbook, connack, connect, door_of, publish, waiting_room
from tidegate.engine.binding import Engine
from tidegate.engine.counters import ROW_WORDS, TIMED_OUT_CONNECT, WAITING_CONNECTIONS, Counters
from tidegate.gateway.admission import MOST_TOLD, Door
from tidegate.gateway.ban_book import Entry
from tidegate.gateway.ban_sheet import sheet_of
from tidegate.gateway.states import State
from tidegate.gateway.waiting import ASKED_PAUSE, NEVER
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId, get
from tidegate.mqtt.reasons import ReasonCode
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.policy.ban_keys import BanKey
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit, Rate

OTHER = bytes([192, 0, 2, 2])
IP = Key(KeyKind.IP)
CLIENT = Key(KeyKind.CLIENT)
DELAY, DROP, REJECT = Cases(Action.DELAY), Cases(Action.DROP), Cases(Action.REJECT)


def connects(amount: int = 1, on_excess: Cases = REJECT, per: tuple[Key, ...] = (IP,), **other: object) -> Limit:
    """So many connections per second, and as many at once."""
    keys: dict[str, object] = {"rate": ByClass((Rate(amount, Fraction(1), amount),)), **other}
    return Limit("connects", Event.CONNECT, on_excess, per=per, **keys)  # type: ignore[arg-type]


def at_once(number: int, on_excess: Cases = REJECT, per: tuple[Key, ...] = (IP,), **other: object) -> Limit:
    """So many open connections."""
    return connects(1, on_excess, per, rate=ByClass(), concurrent=ByClass(number), **other)


class Scene:
    """A worker's door, and clients that come to it."""

    def __init__(self, *limits: Limit, room: int = 1000) -> None:
        self.engine: Engine = engine(*limits)
        self.waiting = waiting_room(self.engine, Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0))
        self.offences: list[tuple[str, str, str | None, bytes]] = []
        self.door: Door = door_of(self.waiting, room)
        self.door.report = lambda *offence: self.offences.append(offence)
        self.door.wall_clock = lambda: 1_000_000.0
        self.now = 0.0
        self.plays: list[Playbook] = []

    def come(self, address: bytes = ADDRESS) -> Playbook:
        """A client whose socket was accepted."""
        play = Playbook(engine=self.engine, waiting=self.waiting, door=self.door, address=address, now=self.now)
        self.plays.append(play)
        return play

    def greet(self, version: int = 4, client_id: str = "c", address: bytes = ADDRESS) -> Playbook:
        """One that has sent CONNECT."""
        return self.come(address).client(connect(version, client_id=client_id))

    def states(self, *plays: Playbook) -> list[State]:
        return [play.state for play in plays]

    def open(self, version: int = 4, client_id: str = "c", address: bytes = ADDRESS) -> Playbook:
        """One that the broker has accepted, if it came so far."""
        play = self.greet(version, client_id, address)
        return play.upstream().broker(connack(version))

    def at(self, now: float) -> "Scene":
        """Give turns to those whose time has come."""
        self.now = now
        for play in self.plays:
            play.now = now
        while self.waiting.next_at <= now:
            self.waiting.run(now)
        return self


def refusal(wire: bytes, version: int = 5) -> Connack:
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Connack.read(wire, 0, frame.body, frame.end, version)


class TestAtAccept:
    """Limits that go by the address."""

    def test_within_the_limit_nothing_is_felt(self) -> None:
        scene = Scene(connects(2))
        assert [scene.open().state for _ in range(2)] == [State.OPEN] * 2

    def test_drop_closes_before_a_byte_is_read(self) -> None:
        scene = Scene(connects(1, DROP))
        scene.come()
        assert scene.come().take() == (b"", b"", ["end"])

    @pytest.mark.parametrize("action", [Action.REJECT, Action.DISCONNECT])
    def test_reject_tells_version_5(self, action: Action) -> None:
        scene = Scene(connects(1, Cases(action)))
        scene.come()
        play = scene.come()
        assert play.take() == (b"", b"", [])
        to_client, to_broker, commands = play.client(connect(5)).take()
        told = refusal(to_client)
        assert told.reason == ReasonCode.CONNECTION_RATE_EXCEEDED
        assert get(told.properties, PropertyId.REASON_STRING) == "over limit connects: retry in 1001 ms"
        assert get(told.properties, PropertyId.USER_PROPERTY) == ("retry-after-ms", "1001")
        assert (to_broker, commands) == (b"", ["end"])

    @pytest.mark.parametrize("version", [3, 4])
    def test_reject_tells_version_3_what_it_can(self, version: int) -> None:
        scene = Scene(connects(1))
        scene.come()
        assert scene.greet(version).take() == (connack(version, 3), b"", ["end"])

    def test_the_refusal_is_no_larger_than_the_client_takes(self) -> None:
        scene = Scene(connects(1))
        scene.come()
        taken: Properties = [(PropertyId.MAXIMUM_PACKET_SIZE, 20)]
        to_client = scene.come().client(connect(5, properties=taken)).take()[0]
        assert refusal(to_client) == Connack(False, ReasonCode.CONNECTION_RATE_EXCEEDED, [])

    def test_who_is_refused_and_says_nothing_is_closed(self) -> None:
        scene = Scene(connects(1))
        scene.come()
        play = scene.come()
        assert play.at(4.9).take()[2] == []
        assert play.at(5.0).take() == (b"", b"", ["end"])
        assert play.counters.value(TIMED_OUT_CONNECT) == 0

    def test_so_many_are_told_at_a_time(self) -> None:
        scene = Scene(connects(1))
        scene.come()
        told = [scene.come() for _ in range(MOST_TOLD)]
        assert scene.come().take()[2] == ["end"]
        told[0].connection.client_closed()
        assert scene.come().state is State.TURNED_AWAY

    def test_other_addresses_have_their_own_budget(self) -> None:
        scene = Scene(connects(1))
        scene.come()
        assert scene.come(OTHER).state is State.GREETING

    def test_the_budget_comes_back(self) -> None:
        scene = Scene(connects(1))
        scene.come()
        scene.at(1.0)
        assert scene.come().state is State.GREETING


class TestPaced:
    """`delay`: connections come in one after the other."""

    def test_who_waits_is_not_read(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        play = scene.come()
        assert (play.state, play.take()[2]) == (State.ARRIVED, ["hold"])
        assert play.counters.value(WAITING_CONNECTIONS) == 0
        assert scene.waiting.counters.value(WAITING_CONNECTIONS) == 1
        scene.at(1.0)
        assert (play.state, play.take()[2]) == (State.GREETING, ["free"])
        assert scene.waiting.counters.value(WAITING_CONNECTIONS) == 0

    def test_what_was_read_before_it_could_be_stopped_is_not_lost(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        play = scene.come().client(connect()[:5]).client(connect()[5:])
        play.take()
        scene.at(1.0)
        assert play.take() == (b"", b"", ["open", "free"])

    def test_it_has_all_the_time_for_its_connect_from_then_on(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        play = scene.come()
        scene.at(1.0)
        assert play.connection.wake_at == 6.0

    def test_they_come_in_one_by_one(self) -> None:
        scene = Scene(connects(1, DELAY, max_delay=10.0))
        scene.come()
        plays = [scene.come() for _ in range(3)]
        for number in range(3):
            scene.at(number + 1.0)
            assert [play.state for play in plays].count(State.GREETING) == number + 1
            assert plays[number].state is State.GREETING

    def test_addresses_take_turns(self) -> None:
        scene = Scene(connects(1, DELAY, (Key(KeyKind.ALL),), max_delay=10.0))
        scene.come()
        flood = [scene.come() for _ in range(5)]
        other = scene.come(OTHER)
        scene.at(1.0).at(2.0)
        assert other.state is State.GREETING
        assert [play.state for play in flood].count(State.GREETING) == 1

    @pytest.mark.parametrize(("then", "state"), [(REJECT, State.TURNED_AWAY), (DROP, State.CLOSED)])
    def test_who_has_waited_too_long_is_refused(self, then: Cases, state: State) -> None:
        scene = Scene(connects(1, DELAY, max_delay=2.0, then=then, rate=ByClass((Rate(1, Fraction(60), 1),))))
        scene.come()
        play = scene.come()
        assert play.connection.wake_at == 2.0
        play.at(2.0)
        assert play.state is state
        assert scene.waiting.next_at == NEVER
        assert scene.engine.segment.tallies(0)[2] == 1, "delayed"
        assert scene.engine.segment.tallies(0)[4 if then == REJECT else 3] == 1

    def test_the_room_is_bounded(self) -> None:
        scene = Scene(connects(1, DELAY, (Key(KeyKind.ALL),)), room=2)
        scene.come()
        flood = [scene.come() for _ in range(3)]
        assert [play.state for play in flood] == [State.ARRIVED, State.ARRIVED, State.TURNED_AWAY]
        other = scene.come(OTHER)
        assert [play.state for play in flood] == [State.ARRIVED, State.TURNED_AWAY, State.TURNED_AWAY]
        assert other.state is State.ARRIVED

    def test_who_comes_back_into_a_full_room_finds_it_full(self) -> None:
        by_client = connects(1, DELAY, (CLIENT, IP), rate=ByClass((Rate(1, Fraction(60), 1),)))
        pace = Limit("pace", Event.CONNECT, DELAY, per=(Key(KeyKind.ALL),), rate=ByClass((Rate(1, Fraction(1), 2),)))
        scene = Scene(pace, by_client, room=2)
        scene.open()
        scene.come()
        flood = [scene.come().client(connect()) for _ in range(2)]
        assert scene.states(*flood) == [State.ARRIVED] * 2
        scene.now = 1.0  # what the last has waited for is there, but nobody has had a turn yet
        other = scene.come(OTHER)
        assert scene.states(*flood, other) == [State.ARRIVED, State.CLOSED, State.ARRIVED]
        assert scene.door.room.count == scene.waiting.counters.value(WAITING_CONNECTIONS) == 2

    def test_who_leaves_while_it_waits_takes_nothing(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        first, second = scene.come(), scene.come()
        first.connection.client_closed()
        scene.at(1.0)
        assert (first.state, second.state) == (State.CLOSED, State.GREETING)

    def test_who_has_hung_up_while_it_was_not_read_takes_nothing(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        first, second = scene.come(), scene.come()
        first.connection.has_hung_up = lambda: True
        scene.at(1.0)
        assert scene.states(first, second) == [State.CLOSED, State.GREETING]

    def test_more_than_is_kept_of_one_that_waits(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        play = scene.come()
        for _ in range(17):
            play.client(bytes(65_536))
        assert play.state is State.CLOSED

    def test_shutting_down(self) -> None:
        scene = Scene(connects(1, DELAY))
        scene.come()
        play = scene.come()
        play.connection.shut_down()
        assert play.state is State.CLOSED
        assert scene.waiting.next_at == NEVER


class TestOpenConnections:
    """`concurrent`."""

    def test_so_many_are_open_at_a_time(self) -> None:
        scene = Scene(at_once(2))
        plays = [scene.open() for _ in range(2)]
        to_client = scene.greet(5).take()[0]
        assert refusal(to_client).reason == ReasonCode.QUOTA_EXCEEDED
        assert get(refusal(to_client).properties, PropertyId.USER_PROPERTY) is None
        plays[0].connection.client_closed()
        assert scene.open().state is State.OPEN

    def test_who_never_says_anything_counts_too(self) -> None:
        scene = Scene(at_once(1, DROP))
        silent = scene.come()
        assert scene.come().state is State.CLOSED
        silent.at(5.0)
        assert silent.state is State.CLOSED
        assert scene.come().state is State.GREETING

    def test_who_waits_comes_in_when_another_goes(self) -> None:
        scene = Scene(at_once(1, DELAY))
        play = scene.open()
        waits = scene.come()
        scene.at(0.1)
        assert scene.states(waits) == [State.ARRIVED]
        play.connection.client_closed()
        scene.at(0.1)
        assert scene.states(waits) == [State.GREETING]

    def test_who_has_said_connect_meanwhile_holds_up_nobody(self) -> None:
        scene = Scene(at_once(2, DELAY))
        inside = [scene.open() for _ in range(2)]
        waits = [scene.come().client(connect()) for _ in range(2)]
        scene.at(0.1)
        for play in inside:
            play.connection.client_closed()
        scene.at(0.1)
        assert scene.states(*waits) == [State.OPENING] * 2

    def test_by_client_it_counts_from_connack_on(self) -> None:
        scene = Scene(at_once(1, per=(CLIENT, IP)))
        first = scene.greet()
        second = scene.greet()
        assert (first.state, second.state) == (State.OPENING, State.OPENING)
        first.upstream().broker(connack())
        second.upstream().broker(connack())
        assert (first.state, second.state) == (State.OPEN, State.CLOSED)
        assert second.take()[1].endswith(b"\xe0\x00"), "the broker has accepted it, and is to fire no will"
        assert scene.greet().state is State.CLOSED
        assert scene.greet(client_id="d").state is State.OPENING
        first.connection.client_closed()
        assert scene.open().state is State.OPEN


class TestByIdentity:
    """Limits that go by who a client is."""

    def test_nothing_is_charged_before_the_broker_has_accepted_it(self) -> None:
        scene = Scene(connects(1, per=(CLIENT, IP)))
        for _ in range(5):
            scene.greet().upstream().broker(connack(reason=5))
        assert scene.open().state is State.OPEN
        assert scene.greet().take() == (connack(reason=3), b"", ["end"])

    def test_the_client_is_told(self) -> None:
        scene = Scene(connects(1, per=(CLIENT, IP)))
        scene.open()
        told = refusal(scene.greet(5).take()[0])
        assert told.reason == ReasonCode.CONNECTION_RATE_EXCEEDED
        assert get(told.properties, PropertyId.USER_PROPERTY) == ("retry-after-ms", "1001")

    def test_drop_is_silent(self) -> None:
        scene = Scene(connects(1, DROP, (CLIENT, IP)))
        scene.open()
        assert scene.greet(5).take() == (b"", b"", ["end"])

    def test_an_identifier_that_the_broker_gives_counts(self) -> None:
        scene = Scene(connects(1, per=(CLIENT, IP)))
        given: Properties = [(PropertyId.ASSIGNED_CLIENT_IDENTIFIER, "given")]
        scene.greet(5, "").upstream().broker(connack(5, properties=given))
        assert scene.greet(5, "given").state is State.CLOSED
        assert scene.greet(5, "").state is State.OPENING

    def test_a_delayed_connect_goes_on_when_its_turn_comes(self) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP)))
        scene.open()
        play = scene.greet()
        assert (play.state, play.take()) == (State.QUEUED, (b"", b"", ["hold"]))
        scene.at(0.9)
        assert play.state is State.QUEUED
        scene.at(1.0)
        assert (play.state, play.take()) == (State.OPENING, (b"", b"", ["open", "free"]))
        assert play.upstream().broker(connack()).state is State.OPEN

    def test_the_next_waits_until_the_broker_may_have_accepted_the_first(self) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP)))
        scene.open()
        plays = [scene.greet() for _ in range(2)]
        scene.at(1.0)
        assert [play.state for play in plays] == [State.OPENING, State.QUEUED]
        plays[0].upstream().broker(connack())
        scene.at(1.0 + ASKED_PAUSE)
        assert scene.states(plays[1]) == [State.QUEUED], "it is charged by now"
        scene.at(2.01)
        assert scene.states(plays[1]) == [State.OPENING]

    @pytest.mark.parametrize("how", ["accepted", "refused", "gone"])
    def test_the_next_waits_no_longer_than_for_the_brokers_answer(self, how: str) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP), rate=ByClass((Rate(100, Fraction(1), 2),))))
        for _ in range(2):
            scene.open()
        plays = [scene.greet() for _ in range(2)]
        scene.at(0.5)
        assert scene.states(*plays) == [State.OPENING, State.QUEUED]
        if how == "gone":
            plays[0].connection.client_closed()
        else:
            plays[0].upstream().broker(connack(reason=0 if how == "accepted" else 5))
        scene.at(0.5)
        assert scene.states(plays[1]) == [State.OPENING]

    def test_those_who_asked_at_once_are_paced_at_connack(self) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP)))
        plays = [scene.greet() for _ in range(2)]
        behind = b"\xd0\x00"
        for play in plays:
            play.upstream()
            play.take()
            play.broker(connack() + behind)
        assert plays[0].take()[0] == connack() + behind
        assert scene.states(plays[1]) == [State.QUEUED]
        assert plays[1].broker(behind).take() == (b"", b"", ["hold"])
        scene.at(1.0)
        assert plays[1].state is State.OPEN
        assert plays[1].take() == (connack() + behind + behind, b"", ["free"])

    def test_what_the_client_sent_behind_connect_follows(self) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP)))
        scene.open()
        play = scene.come().client(connect() + b"\xc0\x00")
        play.take()
        scene.at(1.0)
        play.upstream().take()
        assert play.broker(connack()).take() == (connack(), b"\xc0\x00", ["free"])

    def test_the_broker_gone_meanwhile(self) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP)))
        plays = [scene.greet().upstream() for _ in range(2)]
        for play in plays:
            play.broker(connack())
        plays[1].connection.broker_closed(False)
        assert plays[1].state is State.CLOSED
        assert scene.at(5.0).waiting.next_at == NEVER

    @pytest.mark.parametrize(("version", "keepalive", "offered"), [(4, 10, None), (5, 10, None), (5, 60, 10)])
    def test_the_broker_does_not_take_one_that_waits_for_dead(
        self, version: int, keepalive: int, offered: int | None
    ) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP), max_delay=60.0, rate=ByClass((Rate(1, Fraction(20), 1),))))
        given: Properties = [] if offered is None else [(PropertyId.SERVER_KEEP_ALIVE, offered)]
        plays = [scene.come().client(connect(version, keepalive)).upstream() for _ in range(2)]
        for play in plays:
            play.broker(connack(version, properties=given))
        play = plays[1]
        play.take()
        assert play.state is State.QUEUED
        assert play.at(7.4).take()[1] == b""
        assert play.at(7.5).take()[1] == PINGREQ
        assert play.broker(PINGRESP).take()[1] == b""
        assert play.at(15.0).take()[1] == PINGREQ
        play.broker(PINGRESP)
        assert play.at(20.0).state is State.OPEN
        assert refusal(play.take()[0], version).reason == 0, "and no answer to what it has not asked"

    def test_a_broker_that_has_more_than_is_kept_is_not_blamed(self) -> None:
        scene = Scene(connects(1, DELAY, (CLIENT, IP), max_delay=60.0))
        plays = [scene.greet().upstream() for _ in range(2)]
        for play in plays:
            play.broker(connack())
        plays[1].take()
        for _ in range(17):
            plays[1].broker(publish("t", bytes(65_536)))
        assert plays[1].take()[0] == connack(reason=3)
        assert (plays[1].state, plays[1].connection.broker_fault) == (State.CLOSED, None)

    def test_each_limit_counts_whom_it_delays_once(self) -> None:
        by_client = Limit(
            "by-client", Event.CONNECT, DELAY, per=(CLIENT, IP), rate=ByClass((Rate(1, Fraction(60), 1),)), then=REJECT
        )
        scene = Scene(connects(1, DELAY), by_client)
        scene.open()
        play = scene.come()
        scene.at(1.0)
        play.client(connect())
        assert play.state is State.QUEUED
        assert [scene.engine.segment.tallies(slot)[2] for slot in (0, 1)] == [1, 1]

    @pytest.mark.parametrize("waits", [False, True])
    def test_an_observer_counts_who_has_come_in_once(self, waits: bool) -> None:
        observes = connects(1, Cases(Action.OBSERVE), (CLIENT, IP), rate=ByClass((Rate(1, Fraction(60), 1),)))
        pace = Limit("pace", Event.CONNECT, DELAY, per=(CLIENT,), rate=ByClass((Rate(1, Fraction(1), 2 - waits),)))
        scene = Scene(observes, pace)
        scene.open()
        play = scene.greet()
        assert (play.state is State.QUEUED) == waits
        scene.at(1.0)
        assert play.upstream().broker(connack()).state is State.OPEN
        scene.greet().upstream().broker(connack(reason=5))
        assert scene.engine.segment.tallies(0)[:2] == [1, 1]

    def test_it_waits_no_longer_than_max_delay_in_all(self) -> None:
        by_ip = connects(1, DELAY, max_delay=1.5)
        by_client = Limit(
            "by-client",
            Event.CONNECT,
            DELAY,
            per=(CLIENT, IP),
            rate=ByClass((Rate(1, Fraction(60), 1),)),
            max_delay=1.5,
            then=REJECT,
        )
        scene = Scene(by_ip, by_client)
        scene.open()
        play = scene.come()
        scene.at(1.0)
        play.client(connect())
        assert play.state is State.QUEUED
        assert play.connection.wake_at == 1.5
        assert play.at(1.5).take()[0] == connack(reason=3)


class TestSize:
    def test_a_connect_that_is_too_large(self) -> None:
        scene = Scene(connects(rate=ByClass(), size=ByClass(100)))
        assert scene.greet(5).state is State.OPENING
        told = refusal(scene.greet(5, "x" * 100).take()[0])
        assert told.reason == ReasonCode.PACKET_TOO_LARGE
        assert get(told.properties, PropertyId.USER_PROPERTY) is None
        assert scene.greet(4, "x" * 100).take()[0] == connack(reason=3)


class TestBans:
    @pytest.mark.parametrize("name", [CLIENT, Key(KeyKind.USERNAME)])
    def test_nobody_is_banned_for_a_name_that_he_only_claims(self, name: Key) -> None:
        scene = Scene(connects(1, Cases(Action.BAN), (name, IP)))
        scene.open()
        for _ in range(3):
            stranger = scene.greet().upstream()
            stranger.take()
            assert stranger.broker(connack(reason=5)).take()[0] == connack(reason=5)
        assert scene.offences == []
        play = scene.greet().upstream()
        play.take()
        assert play.broker(connack()).take() == (connack(reason=5), b"\xe0\x00", ["end"])
        assert scene.offences == [("connects", "c", None, ADDRESS)]
        assert scene.engine.segment.tallies(0)[6] == 1

    @pytest.mark.parametrize(("per", "offences"), [((CLIENT, IP), 0), ((IP,), 1)])
    def test_too_large_a_connect_does_not_go_on(self, per: tuple[Key, ...], offences: int) -> None:
        scene = Scene(connects(1, Cases(Action.BAN), per, rate=ByClass(), size=ByClass(100)))
        play = scene.greet(5, "x" * 100)
        assert (play.state, len(scene.offences)) == (State.CLOSED, offences)

    @pytest.mark.parametrize(("by", "state"), [("", State.CLOSED), ("guessing", State.OPEN)])
    @pytest.mark.parametrize("key", [BanKey(network=ip_network("192.0.2.1/32")), BanKey(client_id="c")])
    def test_a_ban_by_hand_ends_what_is_open(self, key: BanKey, by: str, state: State) -> None:
        scene = Scene()
        here, other = scene.open(5), scene.open(5, "d", OTHER)
        here.take()
        scene.door.bans.load(sheet_of([Entry(key, by, 0.0, 1_000_060.0, 1)], ()))
        for play in (here, other):
            play.connection.expel()
        assert (here.state, other.state) == (state, State.OPEN)
        to_client, _, commands = here.take()
        assert commands == (["end"] if state is State.CLOSED else [])
        assert to_client[:1] + to_client[2:3] == (b"\xe0\x98" if state is State.CLOSED else b"")

    def test_one_that_is_on_its_way_in_is_asked_there(self) -> None:
        scene = Scene()
        play = scene.greet().upstream()
        scene.door.bans.load(sheet_of([Entry(BanKey(client_id="c"), "", 0.0, 1_000_060.0, 1)], ()))
        play.connection.expel()
        assert play.state is State.OPENING
        play.broker(connack())
        assert play.take()[0] == connack(reason=5)

    def test_an_address_that_is_banned_meanwhile(self) -> None:
        scene = Scene()
        play = scene.come()
        key = BanKey(network=ip_network("192.0.2.1/32"))
        scene.door.bans.load(sheet_of([Entry(key, "guessing", 0.0, 1_000_060.0, 1)], ()))
        assert refusal(play.client(connect(5)).take()[0]).reason == ReasonCode.BANNED
        assert scene.come().take() == (b"", b"", ["end"])


class TestGuessing:
    """auth_failure."""

    @staticmethod
    def limited(on_excess: Action, per: tuple[Key, ...] = (IP,)) -> Scene:
        return Scene(
            Limit(
                "guessing",
                Event.AUTH_FAILURE,
                Cases(on_excess),
                per=per,
                rate=ByClass((Rate(2, Fraction(60), 2),)),
            )
        )

    def guess(self, scene: Scene, version: int = 4, reason: int = 5) -> tuple[bytes, bytes, list[str]]:
        play = scene.greet(version).upstream()
        play.take()
        return play.broker(connack(version, reason)).take()

    @pytest.mark.parametrize(("version", "reason"), [(4, 4), (4, 5), (3, 5), (5, 0x86), (5, 0x87), (5, 0x8C)])
    def test_within_the_limit_the_broker_answers(self, version: int, reason: int) -> None:
        scene = self.limited(Action.BAN)
        for _ in range(2):
            assert self.guess(scene, version, reason)[0] == connack(version, reason)
        self.guess(scene, version, reason)
        assert scene.offences == [("guessing", "c", None, ADDRESS)]

    @pytest.mark.parametrize(("version", "reason"), [(4, 3), (4, 2), (5, 0x88), (5, 0x85)])
    def test_other_refusals_are_no_guesses(self, version: int, reason: int) -> None:
        scene = self.limited(Action.BAN)
        for _ in range(5):
            assert self.guess(scene, version, reason)[0] == connack(version, reason)
        assert scene.offences == []

    def test_who_is_to_be_banned_hears_so(self) -> None:
        scene = self.limited(Action.BAN)
        for _ in range(2):
            self.guess(scene, 5, 0x86)
        to_client, _, commands = self.guess(scene, 5, 0x86)
        assert refusal(to_client).reason == ReasonCode.BANNED
        assert commands == ["end"]

    def test_disconnect_closes_without_a_word(self) -> None:
        scene = self.limited(Action.DISCONNECT)
        for _ in range(2):
            self.guess(scene)
        assert self.guess(scene) == (b"", b"", ["end"])
        assert scene.offences == []

    def test_observe_counts(self) -> None:
        scene = self.limited(Action.OBSERVE)
        for _ in range(3):
            assert self.guess(scene)[0] == connack(reason=5)
        assert scene.engine.segment.tallies(0)[1] == 1

    def test_the_budget_of_another_is_untouched(self) -> None:
        scene = self.limited(Action.BAN, (IP, CLIENT))
        for _ in range(3):
            self.guess(scene)
        play = scene.greet(address=OTHER).upstream()
        play.take()
        assert play.broker(connack(reason=5)).take()[0] == connack(reason=5)
