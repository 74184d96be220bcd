"""Segments for tests: memory of this process, taken only where it is touched, so that a large table costs nothing."""

from mmap import mmap

from tidegate.engine.binding import Segment
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.model import Policy

BOOT = 1
SECRET = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
_PAGE = 4096
_WORD = 16
_TURN = 16
_TURNS = 4096
"""Of one row (native/engine.h)."""
_POLICY_HEAD = 8
"""Bytes before a policy in its half: its size (native/segment.c)."""


def room(
    rows: int = 1,
    slots: int = 64,
    records: int = 64,
    words: int = 1 << 16,
    policy_room: int = 1 << 20,
    *,
    boot: int = BOOT,
    secret: tuple[int, int] = SECRET,
) -> mmap:
    """The memory of a new segment."""
    memory = mmap(-1, Segment.size(rows, slots, records, words, policy_room))
    Segment.create(memory, rows, slots, records, words, policy_room, boot, secret)
    return memory


def segment(
    rows: int = 1, slots: int = 64, records: int = 64, words: int = 1 << 16, policy_room: int = 1 << 20
) -> Segment:
    """A new segment."""
    return Segment(room(rows, slots, records, words, policy_room), BOOT)


def compiled(policy: Policy) -> bytes:
    """A policy in a segment of its own."""
    return compile_policy(policy, assign_slots(policy))


def pages(size: int) -> int:
    """Bytes of the whole pages that hold `size`."""
    return -(-size // _PAGE) * _PAGE


def table_at(memory: mmap, words: int, policy_room: int) -> int:
    """Where the buckets begin in the memory of a segment; the two policies are all that is behind them."""
    return len(memory) - 2 * pages(policy_room + _POLICY_HEAD) - pages(words * _WORD)


def windows(words: int) -> int:
    """Windows of a segment with so many buckets."""
    return max(16, words // 4)


def shares_at(memory: mmap, rows: int, words: int, policy_room: int) -> int:
    """Where what is in flight begins: of each window, a number of four bytes for each row."""
    return table_at(memory, words, policy_room) - pages(windows(words) * rows * 4)


def tags_at(memory: mmap, rows: int, words: int, policy_room: int) -> int:
    """Where the windows' tags begin, of eight bytes each."""
    return shares_at(memory, rows, words, policy_room) - pages(windows(words) * 8)


def turns_at(memory: mmap, rows: int, words: int, policy_room: int) -> int:
    """Where the turns begin: of each row 4096 of a key, how many wait, and how far they are."""
    return tags_at(memory, rows, words, policy_room) - rows * _TURNS * _TURN
