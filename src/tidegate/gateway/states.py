"""The states of a connection, and the table of what moves it from one to the next.

`docs/connection.md` draws this table. `Connection` changes its state through `follow` alone, so an event that the
table does not foresee is an error in the program and never a silent one.
"""

from enum import IntEnum


class State(IntEnum):
    """What the gateway waits for."""

    GREETING = 0
    """The client's CONNECT. Nothing is known and no upstream is open."""
    ARRIVED = 1
    """Its turn, by limits on connecting that go by its address. It is not read."""
    TURNED_AWAY = 2
    """The CONNECT of a client that was refused by its address: by that it is known how to tell it."""
    OPENING = 3
    """The end of the client's former connection, if its will is held back; then the broker's CONNACK. AUTH passes both
    ways, all else that the client sends is held."""
    QUEUED = 4
    """Its turn, by limits on connecting that go by who it is. It is not read."""
    OPEN = 5
    """Packets pass both ways."""
    EMPTYING = 6
    """The last held messages of a client that said DISCONNECT: its DISCONNECT follows them."""
    LEAVING = 7
    """The broker's last bytes to a client that said DISCONNECT, or that the broker has refused or dismissed."""
    CLOSED = 8
    """Nothing: both sides are being closed."""
    ORPHANED = 9
    """The broker's CONNACK, for a client that has gone: if the broker has accepted it, there is a will to decide on."""


class Event(IntEnum):
    """What moves a connection."""

    CONNECT = 0
    """The client sent a CONNECT that keeps the rules."""
    ACCEPTED = 1
    """The broker sent CONNACK 0."""
    REFUSED = 2
    """The broker sent CONNACK with a refusal."""
    CLIENT_LEFT = 3
    """The client sent DISCONNECT."""
    BROKER_DISMISSED = 4
    """The broker sent DISCONNECT (MQTT 5)."""
    CLIENT_GONE = 5
    """The client's socket closed."""
    BROKER_GONE = 6
    """The upstream closed, or could not be opened."""
    VIOLATION = 7
    """The client broke the specification or exceeded what it was offered."""
    TIMEOUT = 8
    """Too late: CONNECT, CONNACK, a keepalive, or the end of LEAVING."""
    SHUTDOWN = 9
    """The gateway is ending."""
    LIMITED = 10
    """The client went over a limit that disconnects."""
    CLIENT_LEAVES = 11
    """The client sent DISCONNECT while messages of its are held."""
    EMPTIED = 12
    """They have left: DISCONNECT has gone to the broker."""
    DELAYED = 13
    """A limit on connecting has it wait."""
    ADMITTED = 14
    """Its turn has come."""
    SHUT_OUT = 15
    """A limit on connecting, or a ban, refused it at accept, and it is to be told."""
    GONE_EARLY = 16
    """The client's socket closed before CONNACK, and limits concern its will."""
    WILL_ASKED_FOR = 17
    """The client sent a DISCONNECT that asks for its will (MQTT 5), and limits concern that."""
    TAKEN_OVER = 18
    """The client has come again by another connection, and its will is one that limits hold back."""


_ENDS = (
    Event.CLIENT_GONE,
    Event.BROKER_GONE,
    Event.VIOLATION,
    Event.TIMEOUT,
    Event.SHUTDOWN,
    Event.LIMITED,
    Event.TAKEN_OVER,
)

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.GREETING, Event.DELAYED): State.ARRIVED,
    (State.GREETING, Event.SHUT_OUT): State.TURNED_AWAY,
    (State.ARRIVED, Event.ADMITTED): State.GREETING,
    (State.ARRIVED, Event.SHUT_OUT): State.TURNED_AWAY,
    (State.GREETING, Event.CONNECT): State.OPENING,
    (State.OPENING, Event.DELAYED): State.QUEUED,
    (State.QUEUED, Event.ADMITTED): State.OPENING,
    (State.OPENING, Event.ACCEPTED): State.OPEN,
    (State.OPENING, Event.REFUSED): State.LEAVING,
    (State.OPENING, Event.BROKER_DISMISSED): State.LEAVING,
    (State.OPEN, Event.CLIENT_LEFT): State.LEAVING,
    (State.OPEN, Event.BROKER_DISMISSED): State.LEAVING,
    (State.OPEN, Event.CLIENT_LEAVES): State.EMPTYING,
    (State.EMPTYING, Event.EMPTIED): State.LEAVING,
    (State.EMPTYING, Event.BROKER_DISMISSED): State.LEAVING,
    (State.LEAVING, Event.BROKER_DISMISSED): State.LEAVING,
    (State.OPENING, Event.GONE_EARLY): State.ORPHANED,
    (State.ORPHANED, Event.ACCEPTED): State.CLOSED,
    (State.ORPHANED, Event.REFUSED): State.CLOSED,
    (State.ORPHANED, Event.BROKER_DISMISSED): State.LEAVING,
    (State.OPEN, Event.WILL_ASKED_FOR): State.CLOSED,
    (State.EMPTYING, Event.WILL_ASKED_FOR): State.CLOSED,
    **{(state, event): State.CLOSED for state in State if state is not State.CLOSED for event in _ENDS},
}
"""Next state by state and event; a pair that is absent cannot happen."""


def follow(state: State, event: Event) -> State:
    """The state after `event`; KeyError for a pair that the table does not have."""
    return TRANSITIONS[state, event]
