"""The plugin decides as the gateway's engine does, of all that it sees, and no bytes harm it."""

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import LARGEST_PACKET, Traffic, arrivals, clients, policies, subscribers, traffic
from strategies import untimed
from support import wire
from support.engine_model import Client
from support.fake_mosquitto import ACL_DENIED, NOT_ASKED, QUOTA_EXCEEDED, SUCCESS, FakeMosquitto, build
from support.segments import segment
from tidegate.app.policy_compile import compile_to
from tidegate.engine.binding import Engine
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.in_plugin import action_in_plugin
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy, Rate

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/mosquitto_plugin.h").exists(),
    reason="no headers: apt-get install mosquitto-dev libmosquitto-dev",
)
OPEN = [("authentication", "open"), ("authorisation", "open")]
shared = settings(untimed, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=[False, True], ids=["2.0", "2.1"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FakeMosquitto, bool]]:
    """A broker of either version; one for all examples."""
    program = build(tmp_path_factory.mktemp("fake") / "broker", is_2_1=request.param)
    with FakeMosquitto(program) as made:
        yield made, request.param


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the policy is."""
    return tmp_path_factory.mktemp("policy") / "policy.tgp"


def without_delay(cases: Cases) -> Cases:
    """As the plugin takes it."""

    def of(action: Action | None) -> Action | None:
        return None if action is None else action_in_plugin(Event.PUBLISH, action)

    default = of(cases.default)
    assert default is not None
    qos = {number: of(action) or action for number, action in cases.qos.items()}
    return Cases(default, qos, of(cases.v3), of(cases.v5))


def seen(limit: Limit) -> Limit:
    """The limit as the plugin takes it: it delays nothing and is told of no acknowledgements."""
    return replace(
        limit, on_excess=without_delay(limit.on_excess), then=without_delay(limit.then), concurrent=ByClass()
    )


def address_of(client: Client) -> str:
    """As the broker writes it."""
    return "/run/mqtt.sock" if client.address is None else str(client.address)


@shared
@given(policies, st.lists(clients, min_size=1, max_size=6), traffic)
def test_publishes_are_decided_as_by_the_gateway(
    broker: tuple[FakeMosquitto, bool], file: Path, policy: Policy, who: list[Client], messages: Traffic
) -> None:
    fake, is_2_1 = broker
    refused = QUOTA_EXCEEDED if is_2_1 else ACL_DENIED
    file.write_bytes(compile_policy(policy, assign_slots(policy), LARGEST_PACKET))
    own = replace(policy, limits=tuple(map(seen, policy.limits)))
    engine = Engine(segment(words=1 << 18), 0)
    engine.load(compile_policy(own, assign_slots(own), LARGEST_PACKET))
    who = [
        replace(one, listener="", bridge=False, clean_start=True, nonce=number, version=one.version or 4)
        for number, one in enumerate(who, 1)
    ]
    subjects = [one.subject() for one in who]
    assert fake.begin([("policy", str(file)), *OPEN]) == 0, fake.log
    clock = 10**12
    for number, one in enumerate(who):
        fake.tell("C", number, one.client_id, one.username, address_of(one), one.version)
    for pause, number, message in messages.messages(len(who), policy):
        if message.event is not Event.PUBLISH or not message.topic:
            continue
        clock += pause
        fake.tell("N", pause)
        payload = message.payload
        packet = len(
            wire.publish(who[number].version, message.topic, bytes(payload), packet_id=1 if message.qos else None)
        )
        verdict = engine.judge(
            subjects[number], message.topic.encode(), message.qos, message.retain, packet, payload, now_ns=clock
        )
        outcome = fake.tell("P", number, message.topic, message.qos, message.retain, payload)
        assert (verdict.action in ("pass", "observe")) == (outcome in (SUCCESS, NOT_ASKED)), (verdict, outcome)
        assert outcome in (SUCCESS, NOT_ASKED, refused)
        fake.kicks.clear()
        fake.tell("T")
        assert len(fake.kicks) == (verdict.action in ("disconnect", "ban"))
    fake.tell("X")


def test_what_one_loop_of_the_broker_reads_has_come_at_the_same_time(
    broker: tuple[FakeMosquitto, bool], file: Path
) -> None:
    fake, _ = broker
    rate: ByClass[tuple[Rate, ...]] = ByClass((Rate(1000, Fraction(1), 1),))
    policy = Policy((), (Limit("a", Event.PUBLISH, Cases(Action.REJECT, v3=Action.REJECT), rate=rate),))
    file.write_bytes(compile_policy(policy, assign_slots(policy), LARGEST_PACKET))
    assert fake.begin([("policy", str(file)), *OPEN]) == 0, fake.log
    fake.tell("C", 0, "c", None, "127.0.0.1", 4)

    fake.tell("G")  # to the beginning of a step of the coarse clock

    def passes(pause_ms: int) -> bool:
        fake.tell("N", pause_ms * 10**6)
        return fake.tell("P", 0, "t", 0, False, 1) == SUCCESS

    assert passes(0)
    assert not passes(2)
    fake.tell("T")
    assert passes(0)
    assert passes(4), "a loop that takes longer than the coarse clock's step"
    fake.tell("X")


@shared
@given(st.binary(max_size=4000), st.integers(0, 2**32), st.one_of(policies, arrivals, subscribers))
def test_no_file_harms_it(
    broker: tuple[FakeMosquitto, bool], file: Path, noise: bytes, seed: int, policy: Policy
) -> None:
    fake, _ = broker
    choose = random.Random(seed)
    whole = compile_policy(policy, assign_slots(policy), LARGEST_PACKET)
    none = compile_policy(Policy((), ()), {}, LARGEST_PACKET)
    blob = bytearray(whole)
    for _ in range(choose.randrange(4)):
        blob[choose.randrange(len(blob))] ^= 1 << choose.randrange(8)
    for content in (noise, bytes(blob), bytes(blob[: choose.randrange(len(blob) + 1)])):
        file.write_bytes(content)
        begun = fake.begin([("policy", str(file)), *OPEN]) == 0
        if begun:
            events(fake, choose, 20)
            for later in (noise, none, whole):
                file.write_bytes(later)
                fake.tell("R")
                events(fake, choose, 5)
        fake.tell("X")


def test_a_failed_login_is_known_by_what_the_broker_does_next(broker: tuple[FakeMosquitto, bool], file: Path) -> None:
    fake, is_2_1 = broker
    if is_2_1:
        pytest.skip("2.1 tells of those who are accepted: see test_plugin_clients.py")
    toml = file.with_suffix(".toml")
    toml.write_text('[[limit]]\nname = "f"\non = "auth_failure"\nper = "ip"\nrate = "9/h"\non_excess = "ban"\n')
    compile_to(toml, file)

    def ends(taken: bool, *between: tuple[str | int, ...]) -> int:
        """One who comes from an address, and goes after what is between: failures that were counted."""
        fake.tell("C", 0, "c", "u", "10.0.0.1", 4)
        for words in between:
            fake.tell(str(words[0]), *words[1:])
        fake.tell("E", 0, taken)
        fake.tell("N", 10**10)
        fake.tell("T")
        return int(fake.figures.get("$SYS/broker/tidegate/limits/f/passed", "0"))

    others = [("authentication", "others"), ("authorisation", "others"), ("sys_interval", "1")]
    assert fake.begin([("policy", str(file)), *others]) == 0, fake.log
    fake.figures.clear()
    assert ends(False) == 0  # a broker that does not tick tells nothing by the order of its calls
    assert ends(False, ("T",)) == 0
    assert ends(False, ("C", 1, "d", "u", "10.0.0.2", 4)) == 0
    assert ends(False) == 1
    fake.tell("X")
    fake.figures.clear()
    assert fake.begin([("policy", str(file)), *others]) == 0, fake.log
    assert ends(True, ("T",)) == 1
    fake.tell("X")
    # Where nobody else decides, whom the plugin lets in has not failed.
    fake.figures.clear()
    assert fake.begin([("policy", str(file)), *OPEN, ("sys_interval", "1")]) == 0, fake.log
    fake.tell("T")
    assert ends(False) == 0
    fake.tell("X")


def events(fake: FakeMosquitto, choose: random.Random, count: int) -> None:
    """Clients that come, do something and go, in any order, with names and topics of any bytes."""

    def text() -> bytes:
        return bytes(
            choose.choice((0x2F, 0x2B, 0x23, 0x24, 0x61, 0xC3, 0xFF, 1)) for _ in range(choose.choice((1, 2, 9, 300)))
        )

    there: set[int] = set()
    for _ in range(count):
        number = choose.randrange(6)
        if number not in there:
            address = choose.choice(
                ("10.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "/sock", "", "nonsense" * 20)
            )
            fake.tell("C", number, text(), choose.choice((None, text())), address, choose.choice((3, 4, 5)))
            there.add(number)
            continue
        match choose.choice("PPPPSSWERTNVVDOU"):
            case "P":
                fake.tell("P", number, text(), choose.randrange(3), choose.random() < 0.3, choose.randrange(1 << 28))
            case "S":
                fake.tell("S", number, choose.choice((text(), b"$share/" + text(), b"$share/")))
            case "W":
                fake.tell("W", number, text(), choose.randrange(3), False, choose.randrange(1000))
                there.discard(number)
            case "E":
                fake.tell("E", number, choose.random() < 0.5)
                there.discard(number)
            case "V":
                fake.tell("V", number, text(), choose.randrange(3), False, choose.randrange(1000))
            case "U":
                fake.tell("U", number, choose.choice((None, text())))
            case "D" | "O" as letter:  # the broker says so, and calls for it again: another has its memory
                fake.tell(letter, number)
            case "N":
                fake.tell("N", choose.randrange(10**11))
            case letter:
                fake.tell(letter)
