from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.audit.mosquitto_conf import Conf, ConfError, decoded, encoded, read, setting


def conf(folder: Path, text: str) -> Conf:
    file = folder / "mosquitto.conf"
    file.write_text(text)
    return read(file)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("user  mosquitto \r", ("user", "mosquitto")),
        ("  user mosquitto", ("user", "mosquitto")),
        ("password_file /a b", ("password_file", "/a b")),
        ("# user x", None),
        (" # user x", ("#", "user x")),  # Mosquitto does not start with this
        ("", None),
        ("   ", None),
        ("user", ("user", "")),
        ("user\tx", ("user\tx", "")),
        ("user a\0b", ("user", "a")),
    ],
)
def test_a_line_as_mosquitto_takes_it(text: str, found: tuple[str, str] | None) -> None:
    assert setting(text) == found


def test_the_last_line_holds_and_each_knows_its_place(tmp_path: Path) -> None:
    found = conf(tmp_path, "# all\nallow_anonymous true\n\nallow_anonymous false\n")
    assert not found.is_on("allow_anonymous")
    line = found.last("allow_anonymous")
    assert line is not None
    assert line.place == f"{tmp_path}/mosquitto.conf:4"


def test_listeners_and_the_options_of_plugins(tmp_path: Path) -> None:
    found = conf(
        tmp_path,
        "password_file /p\nlistener 1883\nplugin /one.so\nplugin_opt_a 1\nuser x\nauth_opt_b 2\n"
        "listener 1884\nauth_plugin /two.so\nplugin_opt_a 3\nplugin_load three /three.so\n",
    )
    assert [line.value for line in found.sections() if line] == ["1883", "1884"]
    password = found.last("password_file")
    assert password is not None
    assert password.section is None
    options = [line for line in found.lines if line.plugin]
    assert [(line.key, line.value, line.plugin.path) for line in options if line.plugin] == [
        ("plugin_opt_a", "1", "/one.so"),
        ("auth_opt_b", "2", "/one.so"),
        ("plugin_opt_a", "3", "/two.so"),
    ]
    assert [line.path for line in found.of("plugin_load")] == ["/three.so"]
    assert [line.section.value for line in found.of("plugin", "auth_plugin") if line.section] == ["1883", "1884"]


def test_included_files_in_mosquittos_order(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    for name in ("b.conf", "a.conf", "B.conf", "A.conf", "01.conf", "ab.conf", "no.txt", ".conf"):
        (folder / name).write_text(f"user {name}\n")
    (folder / "a.conf").write_text(f"user a.conf\ninclude_dir {folder}\n")  # ignored there
    found = conf(tmp_path, f"listener 1883\ninclude_dir {folder}\nuser last\n")
    users = [line.value for line in found.of("user")]
    assert users == ["01.conf", "A.conf", "a.conf", "ab.conf", "B.conf", "b.conf", "last"]
    assert [line.section is None for line in found.of("user")] == [True] * 6 + [False]


def test_what_cannot_be_read_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfError, match=rf"^{tmp_path}/mosquitto.conf:2: include_dir /nowhere: "):
        conf(tmp_path, "user x\ninclude_dir /nowhere\n")
    with pytest.raises(ConfError, match=r"mosquitto.conf:1: include_dir: no folder"):
        conf(tmp_path, "include_dir\n")
    with pytest.raises(ConfError, match=r"^/nowhere/m.conf: cannot be read"):
        read(Path("/nowhere/m.conf"))


KEYS = st.sampled_from(
    [b"include_dir ", b"listener ", b"plugin ", b"plugin_opt_", b"plugin_load ", b"user ", b"\n", b"#"]
)


@given(st.lists(st.one_of(KEYS, st.binary(max_size=20))).map(b"".join))
def test_arbitrary_bytes_never_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.conf"
    file.write_bytes(text)
    assert encoded(decoded(text)) == text
    try:
        found = read(file)
    except ConfError as error:
        refused = str(error)
    else:
        refused = f"{file}:"
        assert all(line.key for line in found.lines)
        assert all(1 <= line.number <= text.count(b"\n") + 1 for line in found.lines)
    assert refused.startswith(f"{file}:")
