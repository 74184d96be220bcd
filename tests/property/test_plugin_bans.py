"""The plugin bans whom the gateway would ban, for as long, and finds them again as the gateway does."""

import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import KEYS, LARGEST_PACKET, classes, clients
from strategies import untimed
from support.engine_model import Client
from support.fake_mosquitto import SUCCESS, FakeMosquitto, build
from support.segments import segment
from tidegate.engine.binding import Engine
from tidegate.gateway.ban_book import BanBook
from tidegate.gateway.ban_sheet import sheet_of
from tidegate.gateway.bans import Bans
from tidegate.policy.ban_keys import key_of_offence
from tidegate.policy.captures import capturing
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.model import (
    Action,
    BanTimes,
    ByClass,
    Cases,
    ClientClass,
    Conditions,
    Event,
    Key,
    KeyKind,
    Limit,
    Policy,
)

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/mosquitto_plugin.h").exists(),
    reason="no headers: apt-get install mosquitto-dev libmosquitto-dev",
)
OPEN = [("authentication", "open"), ("authorisation", "open")]
BANNED = {False: 11, True: 138}
"""What the plugin answers to a CONNECT of whom it keeps out, to 2.0 and 2.1."""
SECOND = 10**9
CLOSE = 0.01
"""Seconds from a ban's end or its oblivion within which nothing is asked: the gateway's times are floats."""
SIZE = 10
"""Bytes of the largest payload: all that is larger is an offence, whatever came before."""
NAMES = ("a", "b", "c")
shared = settings(untimed, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Plugin:
    """The plugin in a broker that does what it is told."""

    def __init__(self, fake: FakeMosquitto, file: Path, is_2_1: bool) -> None:
        self.fake = fake
        self._file = file
        self._banned = BANNED[is_2_1]

    def begin(self, policy: Policy) -> None:
        """Load it, with this policy."""
        self._compile(policy)
        assert self.fake.begin([("policy", str(self._file)), *OPEN]) == 0, self.fake.log

    def reload(self, policy: Policy) -> None:
        """Put this policy in the place of the other."""
        self._compile(policy)
        self.fake.tell("R")
        self.fake.tell("T")

    def comes(
        self,
        number: int = 0,
        client_id: str = "c",
        user: str | None = None,
        address: str = "10.0.0.1",
        version: int = 4,
    ) -> bool:
        """Whether this client is let in."""
        return self.fake.tell("C", number, client_id, user, address, version) != self._banned

    def offends(self, number: int, limit: str) -> bool:
        """Send what is too large, which the limit punishes if it meets the client."""
        self.fake.kicks.clear()
        refused = self.fake.tell("P", number, limit, 0, False, SIZE + 1) != SUCCESS
        self.fake.tell("T")
        assert len(self.fake.kicks) == refused
        return refused

    def wait(self, ns: int) -> None:
        """Let time pass."""
        self.fake.tell("N", ns)

    def _compile(self, policy: Policy) -> None:
        self._file.write_bytes(compile_policy(policy, assign_slots(policy), LARGEST_PACKET))


@pytest.fixture(scope="module", params=[False, True], ids=["2.0", "2.1"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    """In a broker of either version; one for all examples."""
    directory = tmp_path_factory.mktemp("fake")
    with FakeMosquitto(build(directory / "broker", is_2_1=request.param)) as fake:
        yield Plugin(fake, directory / "policy.tgp", request.param)


@pytest.fixture
def plugin(loaded: Plugin) -> Iterator[Plugin]:
    """The same, which ends with the test."""
    yield loaded
    loaded.fake.tell("X")


times = st.builds(
    lambda first, factor, most: BanTimes(float(first), factor, float(first * most)),
    st.integers(1, 100),
    st.sampled_from((1.0, 1.5, 2.0, 4.0, 100.0)),
    st.sampled_from((1, 3, 10, 1000)),
)
pers = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True).map(tuple)
capturing_classes = st.builds(
    lambda name, client, user, version: ClientClass(
        name, Conditions((client,), (user,) * (user != ""), version=version)
    ),
    st.sampled_from(("plc", "guest")),
    st.sampled_from(("{x}", "{x}-*", "*-{x}", "{x}-{y}", "a{y}")),
    st.sampled_from(("", "", "{y}:*", "{x}:*", "*")),
    st.sampled_from(((), (), (5,))),
)


def banning(name: str, per: tuple[Key, ...], ban: BanTimes) -> Limit:
    """A limit that bans whoever sends something large on its topic."""
    return Limit(name, Event.PUBLISH, Cases(Action.BAN), per, topic=(name,), size=ByClass(SIZE), ban=ban)


@st.composite
def couples(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """Two policies that count by the same, with other times, limits of other names, and captures of other numbers."""
    found = tuple(replace(draw(classes(name) | capturing_classes), name=name) for name in ("plc", "guest"))
    per = [draw(pers) for _ in NAMES]
    first = [banning(name, by, draw(times)) for name, by in zip(NAMES, per, strict=True)]
    names = ("a", "c", "d")
    second = [banning(name, by, draw(times)) for name, by in zip(names, (per[0], per[2], per[1]), strict=True)]
    return Policy(found, tuple(first)), Policy(found[::-1], tuple(second[::-1]))


class Model:
    """The gateway's own bans."""

    def __init__(self, policy: Policy) -> None:
        self.book = BanBook()
        self.now = 0.0
        self.take(policy)

    def take(self, policy: Policy) -> None:
        """Go by this one."""
        self.policy = policy
        self.engine = Engine(segment(words=1 << 10), 0)
        self.engine.load(compile_policy(policy, assign_slots(policy), LARGEST_PACKET))

    def offend(self, name: str, client: Client) -> None:
        """A limit has found it over it."""
        limit = next(one for one in self.policy.limits if one.name == name)
        key = key_of_offence(limit.per, self.policy.classes, client.client_id, client.username, client.address)
        if key is not None:
            self.book.offend(name, key, limit.ban, self.now)

    def is_banned(self, client: Client) -> bool:
        """What a worker would say of its CONNECT."""
        if self.engine.is_exempt(client.subject(), False):
            return False
        bans = Bans()
        bans.load(sheet_of(self.book.active(self.now), capturing(self.policy.classes)))
        packed = b"" if client.address is None else client.address.packed
        found = bans.of_address(packed, self.now) or bans.of_client(client.client_id, client.username, packed, self.now)
        return found is not None

    def edge(self, choose: random.Random) -> float:
        """Seconds to just before or behind what happens to one of the bans; any other time when there is none."""
        times = [time for entry in self.book for time in (entry.until, entry.forget) if time > self.now]
        return choose.choice(times) - self.now + 10 * CLOSE * choose.choice((-1, 1)) if times else choose.random() * 1e3

    def is_close(self) -> bool:
        """Whether something happens right now."""
        return any(abs(time - self.now) < CLOSE for entry in self.book for time in (entry.until, entry.forget))


@shared
@given(couples(), st.lists(clients, min_size=1, max_size=4), st.integers(0, 2**32))
def test_bans_are_those_of_the_gateway(
    plugin: Plugin, couple: tuple[Policy, Policy], who: list[Client], seed: int
) -> None:
    policy, other = couple
    plugin.begin(policy)
    who = [replace(one, listener="", bridge=False, clean_start=True, version=one.version or 4) for one in who]
    model = Model(policy)
    choose = random.Random(seed)
    elapsed = 0

    def wait(seconds: float) -> None:
        nonlocal elapsed
        ns = max(0, int(seconds * SECOND))
        plugin.wait(ns)
        elapsed += ns
        model.now = elapsed / SECOND

    for _ in range(60):
        match choose.choice("CCCOOOOEEEEPR"):
            case "E":
                wait(model.edge(choose))
            case "P":
                wait(choose.random() * choose.choice((1, 100, 10_000)))
            case "R":
                policy, other = other, policy
                model.take(policy)
                plugin.reload(policy)
            case letter:
                while model.is_close():
                    wait(2 * CLOSE)
                number = choose.randrange(len(who))
                one = who[number]
                address = "/run/mqtt.sock" if one.address is None else str(one.address)
                comes = plugin.comes(number, one.client_id, one.username, address, one.version)
                assert comes != model.is_banned(one)
                name = choose.choice(policy.limits).name
                if letter == "O" and comes and plugin.offends(number, name):
                    model.offend(name, one)


def test_a_capture_is_the_same_in_a_policy_that_numbers_it_otherwise(plugin: Plugin) -> None:
    found = (ClientClass("p", Conditions(("{x}-*",))), ClientClass("q", Conditions((), ("{y}:*",))))
    by_x = banning("a", (Key(KeyKind.CAPTURE, capture="x"),), BanTimes())
    by_y = banning("b", (Key(KeyKind.CAPTURE, capture="y"),), BanTimes())
    first, second = Policy(found, (by_x, by_y)), Policy(found[::-1], (by_y, by_x))
    plugin.begin(first)
    assert plugin.comes(0, "acme-1", "umbrella:1")
    assert plugin.offends(0, "a")
    for policy in (first, second, first):
        plugin.reload(policy)
        assert not plugin.comes(0, "acme-2", "umbrella:1")
        assert plugin.comes(0, "umbrella-1", "acme:1")


def test_a_captured_name_is_banned_in_whichever_version_it_comes_back(plugin: Plugin) -> None:
    tenants = ClientClass("t", Conditions(("{x}-*",), version=(4,)))
    plugin.begin(Policy((tenants,), (banning("a", (Key(KeyKind.CAPTURE, capture="x"),), BanTimes()),)))
    assert plugin.comes(client_id="acme-1")
    assert plugin.offends(0, "a")
    assert not plugin.comes(client_id="acme-2", version=5)


def test_a_ban_outlives_the_last_limit_that_bans(plugin: Plugin) -> None:
    ban = banning("a", (Key(KeyKind.CLIENT),), BanTimes())
    plugin.begin(Policy((), (ban,)))
    assert plugin.comes()
    assert plugin.offends(0, "a")
    plugin.reload(Policy((), (replace(ban, on_excess=Cases(Action.REJECT)),)))
    assert not plugin.comes()
    plugin.wait(30 * SECOND)
    assert plugin.comes()


def test_of_two_networks_the_last_is_banned(plugin: Plugin) -> None:
    per = (Key(KeyKind.IP, 32, 64), Key(KeyKind.IP, 24, 48))
    plugin.begin(Policy((), (banning("a", per, BanTimes()),)))
    assert plugin.comes()
    assert plugin.offends(0, "a")
    assert [plugin.comes(address=address) for address in ("10.0.0.2", "10.0.1.1")] == [False, True]


def test_an_exempt_address_is_not_kept_out_with_its_network(plugin: Plugin) -> None:
    spared = ClientClass("spared", Conditions(cidr=(ip_network("10.0.0.2/32"),)), exempt=True)
    plugin.begin(Policy((spared,), (banning("a", (Key(KeyKind.IP, 24, 48),), BanTimes()),)))
    assert plugin.comes()
    assert plugin.offends(0, "a")
    assert [plugin.comes(address=address) for address in ("10.0.0.2", "10.0.0.3")] == [True, False]


def test_nobody_in_particular_is_not_banned_and_it_is_told_once(plugin: Plugin) -> None:
    plugin.begin(Policy((), (banning("a", (Key(KeyKind.IP),), BanTimes()),)))
    for _ in range(3):
        assert plugin.comes(address="/run/mqtt.sock")
        assert plugin.offends(0, "a")
    assert len([line for line in plugin.fake.log if "nobody to ban" in line]) == 1


def test_each_ban_in_a_row_lasts_longer(plugin: Plugin) -> None:
    plugin.begin(Policy((), (banning("a", (Key(KeyKind.CLIENT),), BanTimes(30.0, 4.0, 1000.0)),)))
    assert plugin.comes()
    for seconds in (30, 120, 480, 1000, 1000):
        plugin.offends(0, "a")
        plugin.offends(0, "a")  # what had been on its way is no further offence
        assert any(f"banned by limit a for {seconds} s" in line for line in plugin.fake.log)
        plugin.fake.log.clear()
        plugin.wait(seconds * SECOND - 1)
        assert not plugin.comes()
        plugin.wait(1)
        assert plugin.comes()
    plugin.wait(1000 * SECOND - 1)  # one that ended so long ago is still remembered
    plugin.offends(0, "a")
    plugin.wait(1000 * SECOND - 1)
    assert not plugin.comes()
    plugin.wait(1 + 1000 * SECOND)
    assert plugin.comes()
    plugin.offends(0, "a")
    plugin.wait(30 * SECOND)
    assert plugin.comes()


def test_a_full_list_loses_what_is_to_be_forgotten_and_then_what_ends_first(plugin: Plugin) -> None:
    by_client = (Key(KeyKind.CLIENT),)
    limits = (
        banning("short", by_client, BanTimes(10.0, 1.0, 10.0)),
        banning("long", by_client, BanTimes(1e6, 1.0, 1e6)),
        banning("again", by_client, BanTimes(1.0, 100.0, 1e6)),
    )
    plugin.begin(Policy((), limits))
    log = plugin.fake.log

    def comes(number: int) -> bool:
        return plugin.comes(client_id=f"c{number}")

    def ban(number: int, limit: str) -> None:
        assert comes(number)
        assert plugin.offends(0, limit)
        plugin.wait(1000)

    for number in range(1_500):
        ban(number, "short")
    for number in range(1_500, 11_000):
        ban(number, "long")
    assert [number for number in (0, 999, 1_000, 10_999) if comes(number)] == []
    ban(11_000, "long")
    assert "1000 bans dropped" in log[-2]
    assert [number for number in (0, 999, 1_000, 1_499, 1_500, 11_000) if comes(number)] == [0, 999]

    # 500 short ones are left, to which as many as there is room for are added that end sooner and are remembered.
    for number in range(12_000, 12_999):
        ban(number, "again")
    plugin.wait(21 * SECOND)
    ban(13_000, "long")
    assert not comes(1_500)
    ban(12_998, "again")
    assert "for 100 s" in log[-1], "its first ban is remembered: what is to be forgotten went before"
    ban(12_000, "again")
    assert "for 1 s" in log[-1]
