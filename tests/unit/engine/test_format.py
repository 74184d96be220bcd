"""The layout that Python writes is the one that C reads, and prices never let more through than the rate says."""

import struct
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import untimed
from support.segments import segment
from tidegate.app.policy_compile import compile_to
from tidegate.engine import format as layout
from tidegate.engine.binding import RECORD_SIZES, Engine, Meter
from tidegate.engine.errors import PolicyError
from tidegate.engine.format import LONGEST, TICKS, Price, Sections, Written, price
from tidegate.policy.model import Event, KeyKind

SECOND = 10**9
DAY = Fraction(86400)


def test_records_are_as_large_as_the_compilers() -> None:
    sizes = {name: record.size for name, record in layout.RECORDS.items()}
    assert sizes == {name: size for name, size in RECORD_SIZES.items() if name != "head"}
    assert len(Sections().pack()) == RECORD_SIZES["head"]


def test_every_section_begins_at_a_multiple_of_eight() -> None:
    sections = Sections()
    sections.write_text(b"abc")
    sections.write_numbers([1, 2, 3])
    sections.add("component", 0, 0, 0)
    packed = sections.pack()
    assert len(packed) == RECORD_SIZES["head"] + 16 + 16 + 8
    assert packed.endswith(b"abc\0\0\0\0\0")


def test_texts_and_lists_are_written_once() -> None:
    sections = Sections()
    assert sections.write_text(b"ab") == sections.write_text(b"ab") == (0, 2)
    assert sections.write_text(b"b") == (2, 1)
    assert sections.write_numbers([1, 2]) == sections.write_numbers((1, 2)) == (0, 2)
    assert sections.extend("group", [(1, 2), (3, 4)]) == (0, 2)
    assert sections.add("group", 5, 6) == 2


def test_the_checksum_is_fnv_1a_over_what_follows_it() -> None:
    packed = Sections().pack()
    value = 0xCBF29CE484222325
    for byte in packed[24:]:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    assert struct.unpack_from("<Q", packed, 16) == (value,)


@pytest.mark.parametrize("at", [24, 60, 119])
def test_a_byte_that_changed_is_found_out(at: int) -> None:
    engine = Engine(segment(words=16), -1)
    group = Sections()
    group.add("group", 0, 0)
    packed = bytearray(group.pack())
    engine.load(bytes(packed))
    packed[at] ^= 1
    with pytest.raises(PolicyError, match="checksum"):
        engine.load(bytes(packed))


amounts = st.integers(1, 10**9)
periods = st.fractions(Fraction(1, 1000), 365 * DAY, max_denominator=10**6)


@untimed
@given(amounts, periods, st.integers(1, 10**6), st.integers(1, 10**6))
def test_what_is_charged_is_never_less_than_the_exact_cost(
    amount: int, period: Fraction, burst: int, units: int
) -> None:
    try:
        one = price(amount, period, burst)
    except ValueError:
        return
    exact = units * period * TICKS / amount
    assert exact <= one.ticks(units) < exact * (1 + Fraction(1, 10**15)) + 3
    assert one.ticks(1) % 2 == one.burst % 2 == one.largest % 2 == 0
    assert one.multiplier < 2**64
    assert 0 <= one.shift < 64


@untimed
@given(amounts, periods, st.integers(1, 10**9), st.integers(1, 2**28))
def test_a_burst_of_bytes_holds_what_it_says_in_packets_of_any_size(
    amount: int, period: Fraction, burst: int, packet: int
) -> None:
    try:
        one = price(amount, period, burst, packet)
    except ValueError:
        return
    slack = 1024  # ticks, 64 ns
    whole = burst // 512
    assert whole * one.ticks(512) <= one.burst or whole > slack // 2
    assert one.burst <= burst * period * TICKS / amount * (1 + Fraction(1, 10**15)) + slack + 3
    assert one.largest == one.ticks(packet)


def admitted(meter: Meter, cost: int, start: int, seconds: int, tries: int) -> int:
    """How much of `tries` charges a second passes."""
    count = 0
    for number in range(seconds * tries):
        now = start + number * SECOND // tries
        count += sum(cost for _ in range(3) if not meter.hit(b"key", cost, now))
    return count


@pytest.mark.parametrize(
    ("amount", "period", "burst"),
    [
        (1, DAY, 1),
        (3, Fraction(1), 2),
        (7, Fraction(3), 7),
        (1, Fraction(1, 3), 1),
        (997, Fraction(1), 1),
        (86399, DAY, 3),
    ],
)
def test_a_rate_is_exact_from_the_first_message_on(amount: int, period: Fraction, burst: int) -> None:
    meter = Meter(segment(), 1, 1, price(amount, period, burst))
    seconds = 20
    most = burst + amount * seconds // period
    assert burst <= admitted(meter, 1, SECOND, seconds, 100) <= most


def test_one_a_day_is_one_a_day() -> None:
    meter = Meter(segment(), 1, 1, price(1, DAY, 1))
    day = 86400 * SECOND
    for number in range(1, 400):
        assert meter.hit(b"", 1, number * day) == 0
        assert meter.hit(b"", 1, number * day) == day + 1
        assert 0 < meter.hit(b"", 1, (number + 1) * day - 1) <= 2


def test_ten_gibibytes_a_second() -> None:
    rate = 10 * 2**30
    meter = Meter(segment(), 1, 1, price(rate, Fraction(1), 2**20, 2**20))
    packet, passed, ns = 65536, 0, 10**6
    for now in range(SECOND, SECOND + ns, 1000):
        while meter.hit(b"", packet, now) == 0:
            passed += packet
    most = 2**20 + rate * ns // SECOND + 1024  # burst, rate, and the slack of 64 ns
    assert most - 2 * packet <= passed <= most


def test_a_packet_larger_than_the_burst_passes_and_leaves_its_debt() -> None:
    meter = Meter(segment(), 1, 1, price(1000, Fraction(1), 100, 5000))
    assert meter.hit(b"", 5000, SECOND) == 0
    assert meter.hit(b"", 5000, SECOND) == 5 * SECOND + 1
    assert meter.hit(b"", 1, 6 * SECOND - SECOND // 9) > 0
    assert meter.hit(b"", 1, 6 * SECOND) == 0


@pytest.mark.parametrize(
    ("amount", "period", "burst", "largest"),
    [(1, 731 * DAY, 2, None), (1, Fraction(1), 10**9, None), (1, Fraction(1), 10, 10**8), (1, Fraction(1), 10**8, 1)],
)
def test_what_takes_more_than_two_years_to_refill(
    amount: int, period: Fraction, burst: int, largest: int | None
) -> None:
    with pytest.raises(ValueError, match="two years"):
        price(amount, period, burst, largest)


def test_the_longest_that_is_taken() -> None:
    assert price(1, Fraction(LONGEST, TICKS), 1) == Price(2**61, 1, LONGEST, LONGEST)


def test_what_is_told_of_limits(tmp_path: Path) -> None:
    toml, policy = tmp_path / "a.toml", tmp_path / "a.tgp"
    toml.write_text(
        '[[limit]]\nname = "b"\non = "will"\nper = "topic"\nrate = "1/s"\non_excess = "drop"\n'
        '[[limit]]\nname = "a"\nper = ["username", "ip"]\nrate = "1/s"\n'
        '[[limit]]\nname = "all"\nper = "all"\nbandwidth = "1KiB/s"\n'
    )
    compile_to(toml, policy)
    assert layout.limits_of(policy.read_bytes()) == [
        Written("a", Event.PUBLISH, frozenset({KeyKind.USERNAME, KeyKind.IP})),
        Written("all", Event.PUBLISH, frozenset({KeyKind.ALL})),
        Written("b", Event.WILL, frozenset({KeyKind.TOPIC})),
    ]
