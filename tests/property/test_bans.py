"""Bans: how long they last, whom they name and whom they find, against the plainest way to say it."""

import math
from ipaddress import IPv4Address, IPv6Address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from policies import ADDRESSES, CLIENT_GLOBS, CLIENT_IDS, KEYS, NETWORKS, USER_GLOBS, USERNAMES, policies
from strategies import untimed
from support.engine_model import glob
from tidegate.gateway.ban_book import BanBook, Entry, read_entry
from tidegate.gateway.ban_sheet import sheet_of
from tidegate.gateway.bans import Bans
from tidegate.policy.ban_keys import BanKey, key_of_offence
from tidegate.policy.captures import capturing, possible_captures
from tidegate.policy.model import BanTimes, KeyKind, Limit, Policy
from tidegate.policy.patterns import first_fit

Client = tuple[str, str | None, IPv4Address | IPv6Address | None]

clients = st.tuples(st.sampled_from(CLIENT_IDS), st.sampled_from(USERNAMES), st.sampled_from(ADDRESSES))
keys = st.builds(
    BanKey,
    st.none() | st.sampled_from(NETWORKS),
    client_id=st.none() | st.sampled_from([one for one in CLIENT_IDS if one]),
    username=st.none() | st.sampled_from([one for one in USERNAMES if one is not None]),
    captures=st.sampled_from(((), (("x", "a"),), (("x", "acme"),), (("x", "b"), ("y", "c")))),
).filter(lambda key: key != BanKey())
texts = st.text(st.sampled_from("ab-:\né"), max_size=8)


@settings(untimed)
@given(st.sampled_from([*CLIENT_GLOBS, *USER_GLOBS, "*a*b{x}-*?", "{x}*", "**{y}"]), texts)
def test_a_pattern_captures_as_if_everything_were_tried(pattern: str, text: str) -> None:
    assert first_fit([pattern], text) == glob(pattern, text)


def fits(key: BanKey, client: Client, captures: dict[str, str]) -> bool:
    client_id, username, address = client
    return (
        (key.network is None or (address is not None and address in key.network))
        and key.client_id in (None, client_id)
        and key.username in (None, username)
        and all(captures.get(name) == value for name, value in key.captures)
    )


@settings(untimed)
@given(policies, st.lists(st.tuples(keys, st.integers(1, 9))), clients)
def test_workers_find_those_who_fit_and_the_ban_that_lasts_longest(
    policy: Policy, banned: list[tuple[BanKey, int]], client: Client
) -> None:
    entries = [Entry(key, f"l{number}", 0.0, float(until)) for number, (key, until) in enumerate(banned)]
    assert [read_entry(entry.as_object()).key for entry in entries] == [key for key, _ in banned]
    classes = capturing(policy.classes)
    bans = Bans()
    bans.load(sheet_of(entries, classes))
    client_id, username, address = client
    packed = b"" if address is None else address.packed
    captures = possible_captures(policy.classes, *client)
    now = 4.0
    for is_address, found in (
        (True, bans.of_address(packed, now)),
        (False, bans.of_client(client_id, username, packed, now)),
    ):
        ends = [
            entry.until
            for entry in entries
            if entry.until > now and entry.key.is_address == is_address and fits(entry.key, client, captures)
        ]
        assert (None if found is None else found.until) == max(ends, default=None)
        if found is not None:
            assert entries[int(found.limit[1:])].until == found.until


@settings(untimed)
@given(policies, clients, st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
def test_whom_a_limit_bans_is_found_again(policy: Policy, client: Client, per: list[object]) -> None:
    """The offender is kept out; and by an address nobody who is not of its network."""
    limit = Limit("l", policy.limits[0].on, policy.limits[0].on_excess, per=tuple(per))  # type: ignore[arg-type]
    key = key_of_offence(limit.per, policy.classes, *client)
    client_id, username, address = client
    if key is None:
        return
    bans = Bans()
    bans.load(sheet_of([Entry(key, "l", 0.0, math.inf)], capturing(policy.classes)))
    packed = b"" if address is None else address.packed
    assert bans.of_address(packed, 0.0) or bans.of_client(client_id, username, packed, 0.0)
    if any(one.kind is KeyKind.IP for one in limit.per):
        assert key.is_unix if address is None else (key.network is not None and address in key.network)


@st.composite
def lives(draw: st.DrawFn) -> tuple[BanTimes, list[float]]:
    first = draw(st.floats(1, 100))
    times = BanTimes(first, draw(st.floats(1, 100)), first * draw(st.floats(1, 1000)))
    return times, draw(st.lists(st.floats(0, 3 * times.longest), max_size=30))


@settings(untimed)
@given(lives())
def test_bans_never_grow_shorter_nor_longer_than_the_longest(life: tuple[BanTimes, list[float]]) -> None:
    times, pauses = life
    book = BanBook()
    key = BanKey(ip_network("192.0.2.7"))
    now, level, last = 1e9, 0, -math.inf
    for pause in pauses:
        now += pause
        book.trim(now)
        entry = book.offend("l", key, times, now)
        assert (entry is None) == (now < last)
        if entry is None:
            continue
        level = level + 1 if now < last + times.longest else 1
        wanted = times.first
        for _ in range(level - 1):
            wanted = min(wanted * times.factor, times.longest)
        assert math.isclose(entry.until - now, wanted, rel_tol=1e-6)
        assert times.first - 1e-6 <= entry.until - now <= times.longest + 1e-6
        assert entry.level == level
        last = entry.until
