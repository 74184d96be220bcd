import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidegate.app import plugin_install
from tidegate.app.plugin_install import MARK, NotInstalled, Plan, Wanted, plan, write
from tidegate.app.policy_compile import compile_to
from tidegate.cli.main import main


class Place:
    """A mosquitto.conf, a plugin and a compiled policy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "mosquitto.conf"
        self.policy = folder / "policy.tgp"
        self.limits('[[limit]]\nname = "all"\ntopic = "#"\nrate = "10/s"\non_excess = "reject"\n')
        self.plugin = folder / "tidegate_mosquitto.so"
        self.plugin.touch()

    def limits(self, text: str) -> None:
        """Compile these."""
        toml = self.folder / "limits.toml"
        toml.write_text(text)
        compile_to(toml, self.policy)

    def plan(self, text: str, *gateways: str) -> Plan:
        self.conf.write_text(text)
        return plan(self.conf, Wanted(self.policy, gateways=gateways))

    def block(self, passwords: str, acl: str) -> str:
        return (
            f"{MARK}\nplugin {self.plugin}\nplugin_opt_policy {self.policy}\n"
            f"plugin_opt_authentication {passwords}\nplugin_opt_authorisation {acl}\n"
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setattr(plugin_install, "PLUGIN", made.plugin)
    return made


@pytest.mark.parametrize(
    ("text", "passwords", "acl"),
    [
        ("user root\nallow_anonymous true\nlistener 1883\n", "open", "open"),
        ("user root\n", "open", "open"),
        ("user root\nlistener 1883\n", "others", "open"),
        ("user root\nbind_address 127.0.0.1\n", "others", "open"),
        ("user root\nallow_anonymous true\nlistener 8883\npsk_hint h\npsk_file /p\n", "open", "open"),
        ("user root\nallow_anonymous true\npassword_file /p\nlistener 1883\n", "others", "open"),
        ("user root\nallow_anonymous true\nacl_file /a\nlistener 1883\n", "open", "others"),
        ("user root\nallow_anonymous true\nplugin /other.so\n", "others", "others"),
    ],
)
def test_who_decides(place: Place, text: str, passwords: str, acl: str) -> None:
    made = place.plan(text)
    assert place.block(passwords, acl) in made.text
    assert made.text.replace(place.block(passwords, acl) + "\n", "") == text
    assert made.obstacles == []


def test_before_other_plugins_and_below_the_leading_comments(place: Place) -> None:
    top = place.plan("# About this file\n\n# who\nuser root\n").text
    assert top == f"# About this file\n\n{place.block('open', 'open')}\n# who\nuser root\n"
    other = place.plan("user root\n# theirs\nplugin /other.so\nplugin_opt_a 1\n").text
    assert other == f"user root\n{place.block('others', 'others')}\n# theirs\nplugin /other.so\nplugin_opt_a 1\n"
    folder = place.folder / "conf.d"
    folder.mkdir()
    (folder / "x.conf").write_text("plugin /other.so\n")
    included = place.plan(f"user root\ninclude_dir {folder}\nlog_type all\n").text
    assert included == f"user root\n{place.block('others', 'others')}\ninclude_dir {folder}\nlog_type all\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only this",
        "user root",
        "user root\r\nplugin /other.so\r\n",
        "listener 1883\nplugin /other.so\nplugin /x/tidegate_mosquitto.so\nplugin_opt_policy /old\n"
        "plugin_opt_buckets 4096\n",
        "# mine\nplugin /x/tidegate_mosquitto.so\nplugin_opt_segment /old\nplugin_opt_gateway 10.0.0.0/8\n",
    ],
)
def test_writing_twice_is_writing_once(place: Place, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(plugin_install, "unreadable_by_broker", lambda *_: ([], True))  # no user root in these
    once = place.plan(text)
    assert write(once) == place.folder / "mosquitto.conf.before-tidegate"
    first = place.conf.read_bytes()
    again = plan(place.conf, Wanted(place.policy))
    assert again.is_there
    assert write(again) is None
    assert place.conf.read_bytes() == first
    assert (place.folder / "mosquitto.conf.before-tidegate").read_text().splitlines() == text.splitlines()
    assert first.count(b"tidegate_mosquitto.so") == 1
    assert b"/old" not in first
    assert all(kept.encode() in first for kept in ("plugin_opt_buckets 4096", "10.0.0.0/8") if kept in text)


def test_mode_stays_and_the_first_copy_too(place: Place) -> None:
    place.conf.write_text("user root\n")
    place.conf.chmod(0o640)
    write(plan(place.conf, Wanted(place.policy)))
    write(plan(place.conf, Wanted(place.policy, gateways=("10.0.0.1", "/run/g.sock"))))
    assert place.conf.stat().st_mode & 0o777 == 0o640
    assert (place.folder / "mosquitto.conf.before-tidegate").read_text() == "user root\n"
    assert "plugin_opt_gateway 10.0.0.1\nplugin_opt_gateway /run/g.sock\n" in place.conf.read_text()
    assert not list(place.folder.glob(".*"))


def test_plugins_that_belong_to_listeners_are_not_written(place: Place) -> None:
    made = place.plan(
        "user root\nper_listener_settings true\nlistener 1883\nallow_anonymous true\nlistener 8883\npassword_file /p\n"
    )
    assert [where for where, _ in made.blocks] == [
        f"below {place.conf}:3: listener 1883",
        f"below {place.conf}:5: listener 8883",
    ]
    assert [lines[2] for _, lines in made.blocks] == [
        "plugin_opt_authentication open",
        "plugin_opt_authentication others",
    ]
    assert made.obstacles[0].startswith(f"{place.conf}:2: per_listener_settings true")
    before = place.conf.read_text()
    with pytest.raises(NotInstalled, match="by hand"):
        write(made)
    assert place.conf.read_text() == before


def test_a_listener_that_says_nothing_is_closed(place: Place) -> None:
    made = place.plan(
        "user root\nper_listener_settings true\nport 1882\nallow_anonymous true\nlistener 1883\nlistener 1884\n"
        "allow_anonymous true\n"
    )
    assert [(where, lines[2]) for where, lines in made.blocks] == [
        (f"below {place.conf}:2: the listener of port, before others", "plugin_opt_authentication open"),
        (f"below {place.conf}:5: listener 1883", "plugin_opt_authentication others"),
        (f"below {place.conf}:6: listener 1884", "plugin_opt_authentication open"),
    ]


def test_warnings(place: Place) -> None:
    made = place.plan(
        "user root\nmax_queued_messages 0\nlistener 1883\nuse_identity_as_username true\nplugin /other.so\n"
    )
    assert [text.partition(": ")[0] for text in made.warnings] == [f"{place.conf}:{n}" for n in (2, 4, 5)]


def test_a_policy_that_is_none(place: Place) -> None:
    toml = place.folder / "tidegate.toml"
    toml.write_text("[[limit]]\n")
    place.conf.write_text("user root\n")
    (text,) = plan(place.conf, Wanted(toml)).obstacles
    assert f"tidegate policy compile {toml} -o {toml.with_suffix('.tgp')}" in text
    (text,) = plan(place.conf, Wanted(place.folder / "none")).obstacles
    assert "No such file" in text
    (text,) = plan(place.conf, Wanted(place.folder)).obstacles
    assert "is a folder" in text
    whole = place.policy.read_bytes()
    for damaged, why in ((whole[:-1], "truncated"), (b"", "truncated"), (b"x" * 400, "not a compiled policy")):
        place.policy.write_bytes(damaged)
        (text,) = plan(place.conf, Wanted(place.policy)).obstacles
        assert text.startswith(f"{place.policy}: {why}")
        assert f"-o {place.policy}" in text
        assert "tidegate policy compile" in text
    (text,) = plan(place.conf, Wanted(place.conf)).obstacles
    assert text.endswith("-o policy.tgp")  # not: over mosquitto.conf
    os.mkfifo(place.folder / "pipe")
    (text,) = plan(place.conf, Wanted(place.folder / "pipe")).obstacles
    assert "is not a file" in text
    made = plan(place.conf, Wanted(segment=place.folder / "none"))
    assert made.obstacles == []
    assert "is not there" in made.warnings[0]


def test_included_and_loaded_twice(place: Place) -> None:
    folder = place.folder / "conf.d"
    folder.mkdir()
    (folder / "x.conf").write_text(f"\nplugin {place.plugin}\n")
    (text,) = place.plan(f"user root\ninclude_dir {folder}\n").obstacles
    assert text.startswith(f"{folder}/x.conf:2: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for another user")
def test_what_the_broker_may_not_read_is_not_written(place: Place) -> None:
    place.folder.chmod(0o755)
    made = place.plan("user nobody\n")
    assert any(str(place.policy) in text for text in made.obstacles)
    with pytest.raises(NotInstalled, match="cannot be read by nobody"):
        write(made)
    made = place.plan("user nobody-of-this-name\n")
    assert made.warnings[0].startswith(f"{place.conf}:1: this machine has no user")
    assert made.obstacles == []


def test_a_copy_of_the_plugin(place: Place) -> None:
    place.plugin.write_bytes(b"ours")
    place.conf.write_text("user root\n")
    copy = place.folder / "lib" / place.plugin.name
    copy.parent.mkdir()
    wanted = Wanted(place.policy, plugin=copy)
    with pytest.raises(NotInstalled, match=f"cannot be read: No such .*; install -D -m 644 {place.plugin} {copy}"):
        plan(place.conf, wanted)
    copy.write_bytes(b"older")
    with pytest.raises(NotInstalled, match="is not the plugin of this Tidegate"):
        plan(place.conf, wanted)
    copy.write_bytes(b"ours")
    assert plan(place.conf, wanted).blocks[0][1][0] == f"plugin {copy}"
    with pytest.raises(NotInstalled, match="must be named"):
        plan(place.conf, Wanted(place.policy, plugin=copy.rename(copy.with_name("other.so"))))


@pytest.mark.parametrize("where", ["10.0.0.1/8", "gateway", "", "a\nb", " /x"])
def test_gateways_that_the_plugin_would_refuse(place: Place, where: str) -> None:
    with pytest.raises(NotInstalled):
        place.plan("", where)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plugin", *map(str, arguments)])


def test_the_commands(place: Place) -> None:
    assert run("path").stdout == f"{place.plugin}\n"
    assert json.loads(run("path", "--json").stdout) == {"path": str(place.plugin)}
    place.conf.write_text("user root\n")
    told = run("install", place.conf, "--policy", place.policy)
    assert told.exit_code == 0
    assert told.stdout == place.block("open", "open").replace(MARK, f"# {place.conf}")
    assert place.conf.read_text() == "user root\n"
    assert "nothing is changed" in told.stderr
    assert "tidegate policy check tidegate.toml --for plugin" in told.stderr
    done = run("install", place.conf, "--policy", place.policy, "--write")
    assert "restart Mosquitto, a reload is not enough" in done.stderr
    found = json.loads(run("install", place.conf, "--policy", place.policy, "--write", "--json").stdout)
    assert found["unchanged"]
    assert run("install", place.conf).exit_code == 2
    assert run("install", place.folder / "none", "--policy", place.policy).exit_code == 2
    place.plugin.unlink()
    missing = run("path")
    assert missing.exit_code == 1
    assert "apt-get install mosquitto-dev libmosquitto-dev" in missing.stderr


def test_what_must_be_mended_first_is_no_success(place: Place) -> None:
    place.conf.write_text("user root\n")
    for flag in ("--write", "--json", None):
        arguments = [place.conf, "--policy", place.folder / "none", *([flag] if flag else [])]
        said = run("install", *arguments)
        assert said.exit_code == 1
        assert f"plugin {place.plugin}" in said.stdout
        assert "nothing is changed" not in said.stderr
    assert (
        json.loads(run("install", place.conf, "--policy", place.folder, "--write", "--json").stdout)["written"] is False
    )
    assert not list(place.folder.glob("*.before-tidegate"))


def test_who_may_not_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.conf.write_text("user root\n")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr(plugin_install, "read_compiled", refused)
    assert "be root (sudo)" in run("install", place.conf, "--policy", place.policy).stderr
    monkeypatch.undo()
    monkeypatch.setattr(plugin_install, "PLUGIN", place.plugin)
    monkeypatch.setattr(plugin_install, "replace", refused)
    done = run("install", place.conf, "--policy", place.policy, "--write")
    assert done.exit_code == 1
    assert "stays as it is: /somewhere: Permission denied; be root (sudo)" in done.stderr
    monkeypatch.setattr(Path, "read_bytes", refused)
    done = run("install", place.conf, "--policy", place.policy)
    assert (done.exit_code, done.stderr.count("be root (sudo)")) == (2, 1)
