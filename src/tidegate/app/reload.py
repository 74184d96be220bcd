"""A new policy for a running gateway: SIGHUP, and what `tidegate reload` learns of it.

The file is read and checked as at the start; one that is wrong changes nothing. What became of it is logged, and
written into the state directory, where the command finds it.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from ..engine.errors import PolicyError
from ..gateway.health import Log
from ..gateway.policy_host import PolicyHost
from ..gateway.state import StateDir, StateDirError
from ..gateway.supervisor import Supervisor
from ..policy.cautions import warnings
from ..policy.compile import TooMuch
from ..policy.enforced import unenforced
from ..policy.problems import SettingsError, printable
from ..policy.schema import LogTable
from ..policy.settings import Settings, load

REPORT = "reload.json"
PATIENCE = 30.0
"""Seconds that the command waits for the gateway's answer: a file with 10,000 limits takes a few."""
_POLL = 0.02
_FIXED = ("gateway", "admin", "log")
"""Tables that are read at the start only."""


@dataclass(frozen=True)
class Report:
    """What became of the last reload, or of the start."""

    pid: int
    config: str | None
    """The file that the gateway was started with, as an absolute path."""
    attempts: int
    """Reloads so far."""
    generation: int
    """Policies that have been in force, with the present one."""
    limits: int
    """Of the policy in force."""
    problems: list[str]
    """Why the last reload changed nothing; empty when it did as it was told."""
    notes: list[str]
    """What is doubtful in the policy, and what else the file changes that takes a restart."""
    began: float = field(default=0.0, compare=False)
    """When the last reload began to read, in seconds of the monotonic clock: later ones have read later files."""

    @classmethod
    def read(cls, state_dir: Path) -> Self | None:
        """The report in a state directory; None while there is none that can be read."""
        try:
            return cls(**json.loads((state_dir / REPORT).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, state_dir: Path) -> None:
        """Put it where `read` finds it, at once or not at all."""
        draft = state_dir / f"{REPORT}.new"
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(state_dir / REPORT)


class Reloader:
    """Reads the configuration of a running gateway again."""

    def __init__(self, settings: Settings, config: Path | None, host: PolicyHost, log: Log) -> None:
        self._settings = settings
        # Resolved now: the folder that a relative path belongs to may be gone later.
        self._config = None if config is None else config.absolute()
        self._host = host
        self._log = log
        self._attempts = 0
        self._began = 0.0
        self.failures = 0
        self._report([], [])

    async def reload(self, supervisor: Supervisor) -> None:
        """Put the file's policy in force, or say why not."""
        self._attempts += 1
        self._began = time.monotonic()
        problems: list[str] = []
        notes: list[str] = []
        try:
            if self._config is None:
                problems = ["tidegate: this gateway was started without a configuration; start it with -c FILE"]
            else:
                settings = load(self._config)
                if found := unenforced(settings.policy, settings.document):
                    raise SettingsError(found)
                self._host.replace(settings.policy)
                await supervisor.reload()
                notes = [str(one) for one in warnings(settings.policy, settings.document, settings.gateway.max_packet)]
                notes += _restart_needed(self._settings, settings)
        except SettingsError as error:
            problems = str(error).split("\n")
        except (TooMuch, PolicyError) as error:
            problems = [f"{self._config}: {error}"]
        for problem in problems:
            self._log.error("reload changed nothing", reason=problem)
        for note in notes:
            self._log.warning(note)
        if problems:
            self.failures += 1
        else:
            self._log.info("policy reloaded", limits=len(self._host.policy.limits), generation=self._host.generation)
        self._report(problems, notes)

    def _report(self, problems: list[str], notes: list[str]) -> None:
        config = None if self._config is None else str(self._config)
        limits = len(self._host.policy.limits)
        report = Report(
            os.getpid(), config, self._attempts, self._host.generation, limits, problems, notes, self._began
        )
        try:
            report.write(self._settings.gateway.state_dir)
        except OSError as error:
            self._log.error("state directory cannot be written", reason=str(error))


def _restart_needed(old: Settings, new: Settings) -> Iterator[str]:
    # What the command line has put over the file's own [log] is no change of the file.
    old = replace(old, log=LogTable.model_validate(old.document.values.get("log", {})))
    for table in _FIXED:
        before, after = getattr(old, table), getattr(new, table)
        for key in type(before).model_fields:
            if getattr(before, key) != getattr(after, key):
                place = new.place(f"{table}.{key}") or printable(new.document.file)
                yield f"{place}: {table}.{key}: takes effect at the next start; restart the gateway for it"


class NotReloaded(Exception):
    """The gateway could not be asked; the text says why and what to do."""


def request(settings: Settings, config: Path) -> Report:
    """Have the gateway that has the state directory of these settings read its configuration again; its answer.

    NotReloaded when there is none, when it was started with another file, or when it does not answer.
    """
    state_dir = settings.gateway.state_dir
    try:
        owner = StateDir(state_dir).owner()
    except StateDirError as error:
        raise NotReloaded(f"{error.text}; run this as the gateway's user") from error
    if owner is None:
        raise NotReloaded(
            f"no gateway runs with gateway.state_dir = {str(state_dir)!r}; start it with tidegate serve -c {config}, "
            "or reload it with systemctl if systemd started it"
        )
    report = Report.read(state_dir)
    if report is None or report.pid != owner.pid:
        raise NotReloaded(f"the gateway (pid {owner.pid}) is still starting; try again when it serves")
    if not _is_same(report.config, config):
        raise NotReloaded(
            f"the gateway was started with {report.config or 'no configuration'}, which is what it reads; "
            f"{f'tidegate reload -c {report.config}' if report.config else 'start it with -c FILE'}"
        )
    asked = time.monotonic()
    try:
        os.kill(owner.pid, signal.SIGHUP)
    except ProcessLookupError as error:
        raise NotReloaded(f"the gateway (pid {owner.pid}) has just ended; start it with tidegate serve") from error
    except OSError as error:
        raise NotReloaded(
            f"pid {owner.pid} cannot be told: {error.strerror}; run this as the gateway's user"
        ) from error
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = Report.read(state_dir)
        if answer is not None and answer.pid == owner.pid and answer.began >= asked:
            return answer
        time.sleep(_POLL)
    raise NotReloaded(f"pid {owner.pid} does not answer within {PATIENCE:g} s; look into its log")


def _is_same(started_with: str | None, config: Path) -> bool:
    """Whether both name one file now: in other words, or by a link."""
    try:
        return started_with is not None and os.path.samefile(started_with, config)
    except OSError:
        return False
