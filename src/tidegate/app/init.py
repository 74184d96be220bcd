"""`tidegate init`: a first configuration, to be changed."""

from importlib.resources import files
from pathlib import Path

_TEMPLATE = "first_policy.toml"


class NotMade(Exception):
    """There is no new file; the text says why and what to do."""


def make(file: Path) -> None:
    """Write the first configuration to `file`. NotMade when there is something already, or it cannot be written."""
    text = files(__package__).joinpath(_TEMPLATE).read_bytes()
    try:
        with file.open("xb") as out:
            out.write(text)
    except FileExistsError as error:
        raise NotMade(f"{file} exists and stays as it is; name another file, or remove it") from error
    except FileNotFoundError as error:
        raise NotMade(f"{file}: there is no folder {file.parent}; make it: mkdir -p {file.parent}") from error
    except OSError as error:
        raise NotMade(f"{file} cannot be written: {error.strerror}; name a file where this user may write") from error
