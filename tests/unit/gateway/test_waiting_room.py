import random
from collections import Counter

from tidegate.engine.counters import ROW_WORDS, WAITING_CONNECTIONS, Counters
from tidegate.gateway.waiting_room import WaitingRoom

A, B, C = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", b"\x0a\x00\x00\x03"


class Guest:
    """Goes when it is told to."""

    def __init__(self, room: WaitingRoom, address: bytes) -> None:
        self.room = room
        self.address = address
        self.was_turned_away = False

    def enter(self) -> bool:
        return self.room.enter(self, self.address, 0.0)

    def turn_away(self, now: float) -> None:
        self.was_turned_away = True
        self.room.leave(self, self.address)


def room(size: int) -> WaitingRoom:
    return WaitingRoom(size, Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0))


def entered(one: WaitingRoom, address: bytes, count: int) -> list[Guest]:
    guests = [Guest(one, address) for _ in range(count)]
    assert all(guest.enter() for guest in guests)
    return guests


def test_so_many_may_wait() -> None:
    one = room(2)
    entered(one, A, 2)
    assert not Guest(one, A).enter()
    assert one.counters.value(WAITING_CONNECTIONS) == 2


def test_who_has_left_makes_room() -> None:
    one = room(1)
    (first,) = entered(one, A, 1)
    one.leave(first, A)
    one.leave(first, A)
    assert one.counters.value(WAITING_CONNECTIONS) == 0
    entered(one, A, 1)


def test_the_address_with_the_most_makes_room_for_another() -> None:
    one = room(4)
    crowd = entered(one, A, 3)
    entered(one, B, 1)
    entered(one, C, 1)
    assert [guest.was_turned_away for guest in crowd] == [False, False, True], "who came last"
    assert one.count == 4


def test_nobody_makes_room_for_one_who_would_have_as_many() -> None:
    one = room(4)
    entered(one, A, 2)
    entered(one, B, 2)
    assert not Guest(one, A).enter()
    assert not Guest(one, B).enter()
    entered(one, C, 1)


def test_who_has_the_most_is_known_whoever_comes_and_goes() -> None:
    one = room(1000)
    chance = random.Random(7)
    addresses = [bytes([10, 0, 0, number]) for number in range(8)]
    inside: list[Guest] = []
    for _ in range(3000):
        if inside and chance.random() < 0.48:
            guest = inside.pop(chance.randrange(len(inside)))
            one.leave(guest, guest.address)
        else:
            inside += entered(one, chance.choice(addresses), 1)
        counts = Counter(guest.address for guest in inside)
        one.size = one.count
        stranger = Guest(one, bytes([10, 0, 1, 0]))
        most = max(counts.values(), default=0)
        assert stranger.enter() == (most > 1)
        turned = [guest for guest in inside if guest.was_turned_away]
        assert [counts[guest.address] for guest in turned] == [most] * (most > 1)
        for guest in turned:
            inside.remove(guest)
        one.leave(stranger, stranger.address)
        one.size = 1000
        assert one.count == len(inside)


def test_a_room_of_none() -> None:
    assert not Guest(room(0), A).enter()
