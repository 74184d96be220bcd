from collections.abc import Sequence
from mmap import mmap
from typing import NamedTuple, TypeAlias

from .format import Price

RECORD_SIZES: dict[str, int]
MOST_PROFILE_BYTES: int
TALLIES: tuple[str, ...]
KINDS: dict[int, str]
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
    def tallies(self, slot: int) -> list[int]: ...
    def forget(self, slot: int) -> None: ...
    def census(self, now: float, bursts: Sequence[int]) -> list[tuple[int, int]]: ...
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
