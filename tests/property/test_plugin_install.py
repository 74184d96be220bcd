"""Whatever mosquitto.conf is like: `plugin install --write` adds its lines, and changes nothing else in it."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies import untimed
from tidegate.app import plugin_install
from tidegate.app.plugin_install import MARK, NotInstalled, Wanted, plan, write
from tidegate.app.policy_compile import compile_to
from tidegate.audit.mosquitto_conf import Conf, Line, read

OURS = b"tidegate_mosquitto.so"
INCLUDED = b"include_dir FOLDER"
COMMENT = st.binary(max_size=12).map(lambda text: b"#" + text.replace(b"\n", b"").replace(b"\r", b""))
SETTING = st.sampled_from(
    [
        b"",
        b"  ",
        b"\t",
        b"user root",
        b"  allow_anonymous  true ",
        b"allow_anonymous false",
        b"max_queued_messages\t0",
        b"listener 1883",
        b"listener 1884 127.0.0.1",
        b"password_file /p \xc3\xa4",
        b"acl_file /\xff",
        b"log_type all",
        b"log_type all",
        b"per_listener_settings true",
        INCLUDED,
        b"plugin /other.so",
        b"auth_plugin /another.so",
        b"plugin_opt_theirs 1",
        b"auth_opt_theirs 2",
        b"clientid_prefixes x\0y",
    ]
)
OF_OURS = st.sampled_from(
    [
        (b"plugin /old/" + OURS, b"plugin_opt_policy /old"),
        (MARK.encode(), b"plugin /x y/" + OURS, b"plugin_opt_segment /old", b"plugin_opt_gateway 10.0.0.0/8"),
        (b"plugin /" + OURS, b"user root", b"plugin_opt_buckets 4096", b"# between", b"plugin_opt_policy /old"),
    ]
)


@st.composite
def confs(draw: st.DrawFn) -> bytes:
    """Lines of all kinds, ends of all kinds."""
    rows = draw(st.lists(st.one_of(SETTING, COMMENT), max_size=12))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(rows)))
        rows[at:at] = draw(OF_OURS)
    ends = draw(st.sampled_from([(b"\n",), (b"\r\n",), (b"\n", b"\r\n")]))
    text = b"".join(row + draw(st.sampled_from(ends)) for row in rows)
    return text.rstrip(b"\r\n") if draw(st.booleans()) else text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A policy, a plugin, and a folder to include."""
    made = tmp_path_factory.mktemp("install")
    (made / "conf.d").mkdir()
    (made / "conf.d" / "theirs.conf").write_text("plugin /included.so\nplugin_opt_theirs 3\n")
    (made / "limits.toml").write_text('[[limit]]\nname = "a"\nrate = "1/s"\non_excess = "reject"\n')
    compile_to(made / "limits.toml", made / "policy.tgp")
    (made / OURS.decode()).touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plugin_install, "PLUGIN", made / OURS.decode())
        patched.setattr(plugin_install, "unreadable_by_broker", lambda *_: ([], True))
        yield made


def is_ours(line: Line) -> bool:
    loads = line.plugin or line
    return OURS.decode() in loads.value and "plugin" in loads.key


def meant(conf: Conf) -> list[object]:
    """What Mosquitto makes of all lines but ours, without their numbers."""
    return [
        (
            line.file,
            line.key,
            line.value,
            line.section and line.section.value,
            line.plugin and line.plugin.value,
        )
        for line in conf.lines
        if not is_ours(line)
    ]


def rest(conf: Conf, text: bytes) -> list[bytes]:
    """The rows that are not ours, with their ends, the mark above ours neither."""
    ours = {line.number - 1 for line in conf.lines if line.file == conf.main and is_ours(line)}
    rows = text.split(b"\n")
    ours |= {at for at, (row, _) in enumerate(pairwise(rows)) if row.rstrip(b"\r") == MARK.encode() and at + 1 in ours}
    return [row for at, row in enumerate(rows) if at not in ours]


def orphaned(conf: Conf) -> bool:
    """Whether there is an option without a plugin: Mosquitto does not start then."""
    return any(line.key.startswith(("plugin_opt_", "auth_opt_")) and line.plugin is None for line in conf.lines)


@untimed
@given(confs())
def test_nothing_else_is_changed(folder: Path, text: bytes) -> None:
    file = folder / "mosquitto.conf"
    text = text.replace(b"FOLDER", str(folder / "conf.d").encode())
    file.write_bytes(text)
    (folder / "mosquitto.conf.before-tidegate").unlink(missing_ok=True)
    before = read(file)
    assume(not orphaned(before))
    made = plan(file, Wanted(folder / "policy.tgp"))
    if made.obstacles:
        assert before.is_per_listener
        with pytest.raises(NotInstalled):
            write(made)
        assert file.read_bytes() == text
        return
    write(made)
    once = file.read_bytes()
    after = read(file)
    # What is set is the same, and ours is there, before what loads others.
    assert meant(after) == meant(before)
    loads = [line.value for line in after.of("plugin", "auth_plugin")]
    assert loads[0] == str(folder / OURS.decode())
    assert sum(OURS.decode() in path for path in loads) == 1
    options = {line.key: line.value for line in after.lines if line.plugin and is_ours(line)}
    assert options["plugin_opt_policy"] == str(folder / "policy.tgp")
    assert "plugin_opt_segment" not in options
    # All other rows are there, byte for byte; one empty row more below ours, where they were not.
    old, new = rest(before, text), rest(after, once)
    if len(new) > len(old):
        blank = next(at for at, row in enumerate(new) if at == len(old) or row != old[at])
        assert new.pop(blank).strip() == b""
    assert new == old
    # Twice is once.
    again = plan(file, Wanted(folder / "policy.tgp"))
    assert again.is_there
    assert write(again) is None
    assert file.read_bytes() == once
    assert (folder / "mosquitto.conf.before-tidegate").read_bytes() == text or once == text
