"""What is installed is what the tree says: a compiled module older than its source would be tested in its place."""

import re
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import files
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
COMPILED = [*re.findall(r"^  '(\w+/\w+)',$", (SOURCE / "tidegate" / "meson.build").read_text(), re.M), "engine/binding"]
NATIVE = sorted(path.name for path in (SOURCE / "tidegate" / "engine" / "native").iterdir())


def installed() -> dict[str, Path]:
    return {str(file): Path(str(file.locate())) for file in files("tidegate") or []}


@pytest.mark.parametrize("module", COMPILED)
def test_compiled_from_this_source(module: str) -> None:
    found = installed()
    for suffix in (".pyx" if module == "engine/binding" else ".py", ".pxd"):
        name = f"tidegate/{module}{suffix}"
        assert found[name].read_bytes() == (SOURCE / name).read_bytes(), "run `make .venv/.built`"
    extensions = [path for name, path in found.items() if name.startswith(f"tidegate/{module}.")]
    assert any(str(path).endswith(EXTENSION_SUFFIXES[0]) for path in extensions)


@pytest.mark.parametrize("name", NATIVE)
def test_linked_from_this_c(name: str) -> None:
    path = f"tidegate/engine/native/{name}"
    assert installed()[path].read_bytes() == (SOURCE / path).read_bytes(), "run `make .venv/.built`"


def test_every_declaration_file_is_compiled() -> None:
    declared = {str(path.relative_to(SOURCE / "tidegate").with_suffix("")) for path in SOURCE.rglob("*.pxd")}
    assert declared == set(COMPILED)
