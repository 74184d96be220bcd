import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from tidegate.gateway import collector
from tidegate.gateway.collector import Collector


class Ring:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


class TestCollector:
    def test_the_rhythm_of_the_interpreter_ends(self) -> None:
        Collector()
        assert not gc.isenabled()

    def test_nothing_is_done_until_what_is_kept_has_doubled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        blocks = 1_000_000
        monkeypatch.setattr(sys, "getallocatedblocks", lambda: blocks)
        one = Collector()
        blocks = 1_999_999
        assert not one.look()
        ring = weakref.ref(Ring())
        assert ring() is not None
        blocks = 2_000_000
        assert one.look()
        assert ring() is None
        assert not one.look()
        blocks = 4_000_000
        assert one.look()

    def test_little_is_never_looked_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        blocks = 10
        monkeypatch.setattr(sys, "getallocatedblocks", lambda: blocks)
        one = Collector()
        blocks = collector.LEAST_BLOCKS - 1
        assert not one.look()
        blocks = collector.LEAST_BLOCKS
        assert one.look()
