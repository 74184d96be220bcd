"""`tidegate policy compile`: the limits of a file in the flat form that the engine reads."""

from pathlib import Path

from ..policy.compile import TooMuch, assign_slots, compile_policy
from ..policy.problems import SettingsError
from ..policy.settings import Settings, load
from .replacing import replace


class NotWritten(Exception):
    """The compiled policy could not be written; the text says why."""


def compiled(settings: Settings) -> bytes:
    """The policy of these settings; SettingsError when it does not fit the flat form."""
    policy = settings.policy
    try:
        return compile_policy(policy, assign_slots(policy), settings.gateway.max_packet)
    except TooMuch as error:
        raise SettingsError([settings.document.problem(("limit",), str(error), "make the policy smaller")]) from error


def compile_to(file: Path, output: Path) -> int:
    """Write the compiled policy of a file, at once or not at all; its size in bytes. SettingsError, NotWritten."""
    blob = compiled(load(file))
    try:
        if output.is_symlink() or (output.exists() and not output.is_file()):  # such as /dev/stdout: never replace it
            output.write_bytes(blob)
        else:
            _replace(output, blob)
    except OSError as error:
        raise NotWritten(f"{output} cannot be written: {error.strerror}; name a file in a folder of yours") from error
    return len(blob)


def _replace(output: Path, blob: bytes) -> None:
    """Who could read the former one, as Mosquitto's user, is to read this one at the next reload, where that can be."""
    former = output.stat() if output.exists() else None
    try:
        replace(output, blob, former)
    except PermissionError:
        if former is None:
            raise
        replace(output, blob, None)  # it was another's, in a folder of ours
