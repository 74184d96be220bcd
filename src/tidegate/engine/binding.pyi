from collections.abc import Sequence
from mmap import mmap
from typing import NamedTuple, TypeAlias

from .format import Price

RECORD_SIZES: dict[str, int]
MOST_PROFILE_BYTES: int
TALLIES: tuple[str, ...]
KINDS: dict[int, str]
ITSELF: int
ACTIONS: tuple[str, ...]

_Memory: TypeAlias = mmap | bytearray | memoryview

class Verdict(NamedTuple):
    action: str
    limit: str
    wait: float
    matched: int
    crowd: bool
    by_size: bool

class Transition(NamedTuple):
    kind: str
    action: str
    slot: int
    count: int  # type: ignore[assignment]  # of tuple, which nobody calls here
    crowd: bool
    now: float
    key: int
    family: int
    address: bytes
    client_id: str
    username: str
    topic: str

class Segment:
    def __init__(self, memory: _Memory, boot: int) -> None: ...
    @staticmethod
    def size(rows: int, slots: int, records: int, words: int, policy_room: int) -> int: ...
    @staticmethod
    def create(
        memory: _Memory,
        rows: int,
        slots: int,
        records: int,
        words: int,
        policy_room: int,
        boot: int,
        secret: tuple[int, int],
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def words(self) -> int: ...
    @property
    def policy_room(self) -> int: ...
    @property
    def generation(self) -> int: ...
    def publish(self, policy: bytes) -> bool: ...
    def policy(self) -> bytes: ...
    def reset_scales(self) -> None: ...
    def set_scale(self, slot: int, priority: int, factor: float) -> None: ...
    @property
    def scalings(self) -> int: ...
    def tallies(self, slot: int) -> list[int]: ...
    def forget(self, slot: int) -> None: ...
    def census(self, now: float, bursts: Sequence[int]) -> list[tuple[int, int]]: ...
    def recover(self, row: int) -> None: ...
    def events(self, row: int, after: int) -> tuple[list[Transition], int, int]: ...
    def events_lost(self, row: int) -> int: ...

class Subject:
    def __init__(
        self,
        client_id: bytes,
        username: bytes | None,
        address: bytes,
        listener: bytes,
        version: int,
        clean_start: bool = True,
        bridge: bool = False,
        nonce: int = 0,
    ) -> None: ...
    @property
    def classes(self) -> tuple[int, ...]: ...
    @property
    def exempt(self) -> bool: ...
    @property
    def priority(self) -> int: ...
    @property
    def first_class(self) -> int: ...

class Engine:
    def __init__(self, segment: Segment, row: int, nonce: int = 0) -> None: ...
    @property
    def segment(self) -> Segment: ...
    @property
    def generation(self) -> int: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def limits(self) -> int: ...
    def bursts(self) -> list[int]: ...
    @property
    def refused_by(self) -> str: ...
    @property
    def wait(self) -> float: ...
    @property
    def by_size(self) -> bool: ...
    @property
    def by_window(self) -> bool: ...
    @property
    def queue(self) -> int: ...
    @property
    def max_delay(self) -> float: ...
    @property
    def then(self) -> int: ...
    @property
    def slot(self) -> int: ...
    def tally(self, slot: int, action: int) -> int: ...
    def late(self, subject: Subject, action: int, now: float) -> None: ...
    @property
    def conflates(self) -> bool: ...
    @property
    def max_qos(self) -> int: ...
    def meets(self, subject: Subject, event: int) -> bool: ...
    def delays(self, subject: Subject, event: int = 0) -> bool: ...
    def window(self, subject: Subject, event: int) -> int: ...
    def taken(self) -> int | tuple[int, ...] | None: ...
    @property
    def shares(self) -> bool: ...
    def free(self, place: int) -> int: ...
    def rows_to_wake(self) -> int: ...
    def wait_for(self, key: int, addresses: int) -> bool: ...
    def lead(self, key: int) -> float: ...
    def served(self, key: int) -> None: ...
    def level(self, key: int) -> None: ...
    def subject(
        self,
        client_id: bytes,
        username: bytes | None,
        address: bytes,
        listener: bytes,
        version: int,
        clean_start: bool = True,
        bridge: bool = False,
        nonce: int = 0,
    ) -> Subject: ...
    def load(self, policy: bytes) -> None: ...
    def resolve(self, subject: Subject) -> int: ...
    def is_exempt(self, subject: Subject, proven: bool) -> bool: ...
    def decide(
        self,
        subject: Subject,
        data: bytes,
        at: int,
        end: int,
        qos: int,
        retain: bool,
        packet: int,
        payload: int,
        again: bool,
        now: float,
        turn: int = 0,
        held: bool = False,
        owed: int = 0,
        ask: bool = False,
    ) -> int: ...
    def decide_connect(
        self,
        subject: Subject,
        late: bool,
        packet: int,
        now: float,
        turn: int = 0,
        held: bool = False,
        ask: bool = False,
        quiet: bool = False,
    ) -> int: ...
    def decide_failure(self, subject: Subject, now: float) -> int: ...
    def decide_subscribe(
        self,
        subject: Subject,
        topic_filter: bytes,
        now: float,
        turn: int = 0,
        held: bool = False,
        ask: bool = False,
        has: bool = False,
    ) -> int: ...
    def decide_deliver(
        self,
        subject: Subject,
        data: bytes,
        at: int,
        end: int,
        qos: int,
        retain: bool,
        packet: int,
        payload: int,
        now: float,
        turn: int = 0,
        held: bool = False,
        owed: int = 0,
        ask: bool = False,
        kept: bool = False,
    ) -> int: ...
    def decide_will(
        self,
        subject: Subject,
        topic: bytes,
        qos: int,
        retain: bool,
        packet: int,
        payload: int,
        now: float,
        turn: int = 0,
        held: bool = False,
        ask: bool = False,
    ) -> int: ...
    def will_delay(self, subject: Subject, topic: bytes, qos: int, retain: bool) -> float: ...
    def decide_packet(
        self, subject: Subject, packet: int, now: float, turn: int = 0, held: bool = False, ask: bool = False
    ) -> int: ...
    def judge(
        self,
        subject: Subject,
        topic: bytes,
        qos: int = 0,
        retain: bool = False,
        packet: int = 0,
        payload: int = 0,
        again: bool = False,
        event: int = 0,
        *,
        now_ns: int,
        turn: int = 0,
        held: bool = False,
        owed: int = 0,
        ask: bool = False,
    ) -> Verdict: ...
    def last(self) -> Verdict: ...
    def matching(
        self, subject: Subject, topic: bytes, qos: int = 0, retain: bool = False, event: int = 0
    ) -> list[int]: ...
    def sweep(self, now: float) -> None: ...

class Meter:
    def __init__(self, segment: Segment, identity: int, nonce: int, price: Price) -> None: ...
    def renew(self, nonce: int) -> None: ...
    def hit(self, key: bytes, cost: int, now_ns: int) -> int: ...
