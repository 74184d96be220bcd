from pathlib import Path

import pytest

from tidegate.policy.reference import example, render
from tidegate.policy.settings import check
from tidegate.policy.toml import parse

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_made_from_the_schema_as_it_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "make it again: python -m tidegate.policy.reference > docs/configuration.md"
    )


def test_the_example_is_valid(tmp_path: Path) -> None:
    token = tmp_path / "admin.token"
    token.write_text("t0ken\n")
    text = example().replace("/etc/tidegate/admin.token", str(token))
    settings = check(parse(text.encode(), "tidegate.toml"))
    assert settings.admin.token == "t0ken"
    assert settings.log.format == "json"


def test_the_page_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    page = render()
    for variable in ("HOME", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, "nowhere")
    assert render() == page
