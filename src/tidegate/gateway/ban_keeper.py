"""Keeps the bans while the gateway runs: offences in; a sheet for the workers, and the file, out.

The workers come first: an offence is in their sheet at once, and on disk right after. When many come, both are done
once in PAUSE. What cannot be written holds all the same, and is tried again. The file is anybody's who has its lock:
what others have written is taken over, with what has changed here since put on top.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..policy.actions import reached
from ..policy.ban_keys import key_of_offence
from ..policy.captures import capturing
from ..policy.counts import OTHER, BanCounts
from ..policy.model import Action, Policy
from .ban_book import BY_HAND, MOST, BanBook, Entry, Ident
from .ban_file import BanFile, BanFileError
from .ban_sheet import BanSheet, lines_of, sheet_of
from .health import Log
from .offences import Offence

PAUSE = 0.2
"""Seconds between two changes of the sheet, and between two writings of the file."""
SHARE = 10
"""Either takes at most one part in so many of the time, however many bans there are."""
MOST_ADDED = 4096
"""Bans that are added to a sheet before it is made anew: who starts reads them one by one."""
RETRY = 10.0
"""Seconds until a file that could not be written is tried again, if nothing happens before; the longest pause."""
MOST_LINES = 4
"""Bans that are logged for one sheet, twenty in a second; the rest is told as a number."""


class BanKeeper:
    """The supervisor's bans. Lives on one event loop; `clock` is wall time."""

    def __init__(
        self, file: BanFile, sheet: BanSheet, policy: Policy, log: Log, clock: Callable[[], float] = time.time
    ) -> None:
        self.tell: Callable[[], None] = lambda: None
        """Has all workers read the sheet; set once they are there."""
        self.dropped = 0
        """Bans in force that were dropped, as there were too many."""
        self.trouble = ""
        """Why the file could not be read or written last time; empty when it could."""
        self._file = file
        self._sheet = sheet
        self._log = log
        self._clock = clock
        self._book = BanBook()
        self._changes: dict[Ident, Entry] = {}
        """What the file does not have yet."""
        self._new: list[Entry] = []
        """What the workers and the log do not have yet."""
        self._added = 0
        """Bans that were added to the sheet since it was made."""
        self._is_outdated = True
        """Whether the sheet must be made anew, as not only new bans have come."""
        self._totals: Counter[str] = Counter()
        self._nobody: set[str] = set()
        """Limits of which it has been told that there was nobody to ban."""
        self._is_changed = asyncio.Event()
        self._is_unsaved = asyncio.Event()
        self._at_file = asyncio.Lock()
        self._set_policy(policy)

    # From outside

    async def start(self) -> None:
        """Read the file, and make the first sheet. Whatever is wrong with the file, it keeps nothing from starting."""
        await self._exchange()
        self.distribute()

    def offend(self, line: bytes) -> None:
        """A worker tells of an offence."""
        try:
            told = Offence.read(line)
        except (ValueError, RecursionError) as error:
            self._log.error("a worker told an offence that cannot be read", reason=str(error))
            return
        limit = self._limits.get(told.limit)
        if limit is None:  # a reload has taken it away meanwhile
            return
        key = key_of_offence(limit.per, self._classes, told.client_id, told.username, told.address)
        if key is None:
            if limit.name not in self._nobody:
                self._nobody.add(limit.name)
                who = {"client": told.client_id, "username": told.username, "address": told.address or "unix"}
                self._log.warning("nobody to ban: nothing tells this client from others", limit=limit.name, **who)
            return
        entry = self._book.offend(limit.name, key, limit.ban, self._clock())
        if entry is not None:
            self._changes[entry.ident] = entry
            self._new.append(entry)
            self._totals[limit.name] += 1
            self._is_changed.set()
            self._is_unsaved.set()

    def reload(self, policy: Policy) -> None:
        """Another policy is in force. Bans stay as they are; who they mean by a capture is found by the new classes."""
        self._set_policy(policy)
        self._is_outdated = True
        self._is_changed.set()

    async def reread(self) -> int:
        """Take over what others have written: the generation of the sheet that has it."""
        await self._exchange()
        return self.distribute()

    async def keep(self) -> None:
        """Distribute and save for ever what changes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_sheet())
            tasks.create_task(self._keep_file())

    async def close(self) -> None:
        """Save what has not been. `keep` must have ended."""
        if self._changes:
            await self._exchange()

    def counts(self) -> Iterator[BanCounts]:
        """Bans by limit: those that can ban now, BY_HAND, and OTHER for those that could."""
        known = {limit.name for limit in self._banning}
        known.add(BY_HAND)
        active: Counter[str] = Counter()
        for entry in self._book.active(self._clock()):
            active[entry.limit if entry.limit in known else OTHER] += 1
        for name in sorted(known | {OTHER}):
            yield BanCounts(name, active[name], self._totals[name] if name in self._limits else None)

    # The workers

    def distribute(self) -> int:
        """Have the workers go by the bans in force: the generation of their sheet."""
        try:
            if self._is_outdated or self._added + len(self._new) > MOST_ADDED or self._book.is_full:
                self._make_sheet()
            else:
                self._sheet.add(lines_of(self._new))
                self._added += len(self._new)
        except OSError as error:
            self._is_outdated = True
            self._log.error("workers cannot be told of bans: no memory", reason=str(error))
        self.tell()
        self._say_new()
        return self._sheet.generation

    def _make_sheet(self) -> None:
        now = self._clock()
        if dropped := self._book.trim(now):
            self.dropped += dropped
            self._log.warning("bans dropped that would have ended first: there are too many", bans=dropped, most=MOST)
        self._sheet.publish(sheet_of(self._book.active(now), self._classes, self._banning))
        self._is_outdated = False
        self._added = 0

    def _say_new(self) -> None:
        for entry in self._new[:MOST_LINES]:
            self._log.warning(
                "banned", who=str(entry.key), limit=entry.limit, until=_stamp(entry.until), times=entry.level
            )
        if len(self._new) > MOST_LINES:
            self._log.warning("more were banned", bans=len(self._new) - MOST_LINES)
        self._new.clear()

    async def _keep_sheet(self) -> None:
        while True:
            await self._is_changed.wait()
            self._is_changed.clear()
            began = time.monotonic()
            self.distribute()
            await asyncio.sleep(max(PAUSE, SHARE * (time.monotonic() - began)))

    # The file

    async def _keep_file(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY if self._changes else None):
                    await self._is_unsaved.wait()
            self._is_unsaved.clear()
            began = time.monotonic()
            await self._exchange()
            await asyncio.sleep(min(max(PAUSE, SHARE * (time.monotonic() - began)), RETRY))

    async def _exchange(self) -> None:
        """Write what has changed here, and take over what others have written."""
        async with self._at_file:
            changes, self._changes = self._changes, {}
            try:
                exchanged = await asyncio.to_thread(exchange, self._file, [*self._book], changes, self._clock())
            except BaseException as error:
                self._changes = {**changes, **self._changes}
                if not isinstance(error, BanFileError):
                    raise
                self._say_trouble(str(error))
                return
        self._say_trouble("")
        for problem in exchanged.problems:
            self._log.error("bans that cannot be read are left out", reason=problem)
        if exchanged.entries is not None:
            self._book = BanBook([*exchanged.entries, *self._changes.values()])
            self._is_outdated = True
            self._is_changed.set()

    def _say_trouble(self, reason: str) -> None:
        """Once, and not with each try."""
        if reason and reason != self.trouble:
            self._log.error("bans are not saved: they hold until the gateway ends", reason=reason)
        if self.trouble and not reason:
            self._log.info("bans are saved again")
        self.trouble = reason

    def _set_policy(self, policy: Policy) -> None:
        self._limits = {limit.name: limit for limit in policy.limits}
        self._banning = [limit for limit in policy.limits if Action.BAN in reached(limit.on_excess, limit.qos)]
        self._classes = capturing(policy.classes)
        self._nobody.clear()


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What has become of an exchange with the file."""

    entries: list[Entry] | None
    """What is in force now, when others had written; None when nobody had."""
    problems: list[str]
    """What of the file could not be read, and where it is kept."""


def exchange(file: BanFile, entries: list[Entry], changes: Mapping[Ident, Entry], now: float) -> Exchanged:
    """Write `entries`, which have the `changes`; or, when others have written, theirs with the changes put on top.

    Without changes a file that can be read is left as it is. Takes as long as the disk does. BanFileError.
    """
    with file.locked():
        theirs: list[Entry] | None = None
        problems: list[str] = []
        if file.is_changed:
            found = file.read()
            theirs = found.entries
            if found.problem:
                problems = [f"{found.problem}; it is kept as {file.set_aside()}, and the rest of it is in force"]
        if changes or problems:
            book = BanBook(entries if theirs is None else [*theirs, *changes.values()])
            book.trim(now)
            file.write(book)
        return Exchanged(None if theirs is None else [*theirs, *changes.values()], problems)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
