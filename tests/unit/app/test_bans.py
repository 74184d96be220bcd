import json
import math
import os
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from support.wait import GUARD
from tidegate.app import bans
from tidegate.app.bans import ANSWER, Answer, NotDone, add, key_from, listed, remove
from tidegate.gateway import ban_book
from tidegate.gateway.ban_book import BY_HAND, Entry
from tidegate.gateway.ban_file import BanFile
from tidegate.gateway.state import StateDir
from tidegate.policy.ban_keys import BanKey
from tidegate.policy.problems import BadValue
from tidegate.policy.settings import Settings, load

NOW = 1000.0
EVE = BanKey(ip_network("192.0.2.7"))
CLASSES = """\
[class.monitor]
cidr = "198.51.100.0/24"
exempt = true
[class.oncall]
any = [{ username = "oncall-*" }, { client_id = "oncall-*", cidr = "10.0.0.0/8" }]
exempt = true
[class.tenants]
username = "{tenant}:*"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "t.toml"
    file.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\n{CLASSES}')
    return load(file)


@pytest.fixture
def file(settings: Settings) -> BanFile:
    return BanFile(settings.gateway.state_dir)


def a_ban(key: BanKey = EVE, limit: str = "guess", until: float = 2000.0) -> Entry:
    return Entry(key, limit, 900.0, until, 2, until + 100)


class TestKey:
    def test_all_parts(self) -> None:
        key = key_from("192.0.2.0/24", "c", "u", False, ["tenant=a=b", "site=s"])
        assert key == BanKey(
            ip_network("192.0.2.0/24"), client_id="c", username="u", captures=(("site", "s"), ("tenant", "a=b"))
        )
        assert key_from("unix", None, None, True, []) == BanKey(is_unix=True, is_anonymous=True)

    @pytest.mark.parametrize(
        ("pairs", "told"),
        [
            (["tenant"], "captures: 'tenant' has no value; write NAME=VALUE, for instance tenant=acme"),
            (["tenant=a", "tenant=b"], "captures: tenant has two values"),
            (["tenant="], "captures: tenant has no value"),
            ([], "nobody is named"),
        ],
    )
    def test_what_is_no_key(self, pairs: list[str], told: str) -> None:
        with pytest.raises(BadValue, match=told):
            key_from(None, None, None, False, pairs)


class TestAdd:
    def test_without_a_gateway(self, settings: Settings, file: BanFile) -> None:
        done = add(settings, EVE, 60.0, "why", NOW)
        assert done == bans.Done([Entry(EVE, BY_HAND, NOW, 1060.0, 1, 1060.0, "why")], [], None)
        assert file.read().entries == done.entries

    def test_it_takes_the_place_of_an_earlier_one_by_hand_alone(self, settings: Settings, file: BanFile) -> None:
        with file.locked():
            file.write([a_ban()])
        add(settings, EVE, 60.0, "", NOW)
        add(settings, EVE, math.inf, "", NOW)
        assert [(entry.limit, entry.until) for entry in file.read().entries] == [("guess", 2000.0), ("", math.inf)]

    def test_a_note_that_is_too_long(self, settings: Settings) -> None:
        with pytest.raises(BadValue, match="note: 201 characters; write at most 200"):
            add(settings, EVE, 60.0, "x" * 201, NOW)

    def test_there_is_room_for_so_many(
        self, settings: Settings, file: BanFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ban_book, "MOST", 2)
        monkeypatch.setattr(bans, "MOST", 2)
        file.path.parent.mkdir()
        file.write([a_ban()])
        for name in ("a", "b"):
            add(settings, BanKey(client_id=name), 60.0, "", NOW)
        assert [entry.limit for entry in file.read().entries] == ["", ""], "those of limits make room"
        with pytest.raises(NotDone, match="there are 2 bans by hand already"):
            add(settings, BanKey(client_id="c"), 60.0, "", NOW)
        assert len(file.read().entries) == 2

    def test_a_broken_file_is_kept_aside(self, settings: Settings, file: BanFile) -> None:
        file.path.parent.mkdir()
        file.path.write_text("nonsense")
        (note,) = add(settings, EVE, 60.0, "", NOW).notes
        assert note.startswith(f"{file.path}:1: not JSON: ")
        assert note.endswith(f"; mend it, or remove it; it is kept as {file.path}.broken")
        assert Path(f"{file.path}.broken").read_text() == "nonsense"
        assert len(file.read().entries) == 1

    def test_a_directory_that_cannot_be_written(self, settings: Settings) -> None:
        settings.gateway.state_dir.write_text("")
        with pytest.raises(NotDone, match=r"bans\.lock: cannot be opened: .*; let the gateway's user"):
            add(settings, EVE, 60.0, "", NOW)


class TestDoubts:
    @pytest.mark.parametrize(
        ("key", "notes"),
        [
            (EVE, []),
            (BanKey(ip_network("198.51.100.7")), ["[class.monitor] is exempt"]),
            (BanKey(ip_network("198.0.0.0/8"), client_id="c"), ["[class.monitor] is exempt"]),
            (BanKey(client_id="monitor"), []),
            (BanKey(username="oncall-1"), ["[class.oncall] is exempt"]),
            (BanKey(username="bob"), []),
            (BanKey(is_anonymous=True), []),
            (BanKey(client_id="oncall-1"), ["[class.oncall] is exempt"]),
            (BanKey(ip_network("192.0.2.7"), client_id="oncall-1"), []),
            (BanKey(ip_network("10.0.0.7"), client_id="oncall-1"), ["[class.oncall] is exempt"]),
            (BanKey(ip_network("127.0.0.1")), ["this covers what connects from this machine"]),
            (
                BanKey(ip_network("0.0.0.0/0")),
                ["[class.monitor] is exempt", "[class.oncall] is exempt", "this covers what connects from this"],
            ),
            (BanKey(ip_network("::/0")), ["this covers what connects from this machine"]),
            (BanKey(is_unix=True), ["this covers what connects from this machine"]),
            (BanKey(ip_network("127.0.0.1"), client_id="c"), []),
            (BanKey(captures=(("tenant", "acme"),)), []),
            (BanKey(captures=(("site", "s"), ("tenant", "t"))), ["no class captures {site}: nobody is kept out"]),
        ],
    )
    def test_what_may_not_be_as_meant(self, settings: Settings, key: BanKey, notes: list[str]) -> None:
        done = add(settings, key, 60.0, "", NOW)
        assert len(done.notes) == len(notes), done.notes
        assert all(note.startswith(begin) for note, begin in zip(done.notes, notes, strict=True))


class TestRemove:
    def test_all_of_a_key(self, settings: Settings, file: BanFile) -> None:
        other = a_ban(BanKey(client_id="c"))
        with file.locked():
            file.write([a_ban(), a_ban(limit="flood"), other])
        done = remove(settings, EVE)
        assert [entry.limit for entry in done.entries] == ["guess", "flood"]
        assert file.read().entries == [other]
        with pytest.raises(NotDone, match=r"there is no ban of ip 192\.0\.2\.7; tidegate ban list shows"):
            remove(settings, EVE)

    def test_a_part_of_a_key_is_another_key(self, settings: Settings, file: BanFile) -> None:
        with file.locked():
            file.write([a_ban(BanKey(ip_network("192.0.2.0/24")))])
        with pytest.raises(NotDone, match="there is no ban of"):
            remove(settings, EVE)

    def test_everything(self, settings: Settings, file: BanFile) -> None:
        with file.locked():
            file.write([a_ban(), a_ban(BanKey(client_id="c"))])
        assert len(remove(settings, None).entries) == 2
        assert file.read().entries == []
        assert remove(settings, None).entries == []


class TestListed:
    def test_those_in_force_the_oldest_first(self, settings: Settings, file: BanFile) -> None:
        old, new = Entry(EVE, "", 1.0, math.inf, 1, math.inf), a_ban(BanKey(client_id="c"))
        with file.locked():
            file.write([new, old, a_ban(until=NOW)])
        assert listed(settings, NOW) == ([old, new], "")

    def test_nobody_has_ever_been_banned(self, settings: Settings) -> None:
        assert listed(settings, NOW) == ([], "")
        assert not settings.gateway.state_dir.exists(), "looking makes nothing"

    def test_a_broken_file_stays_where_it_is(self, settings: Settings, file: BanFile) -> None:
        file.path.parent.mkdir()
        file.path.write_text(json.dumps({"version": 1, "bans": [a_ban().as_object(), 5]}))
        found, problem = listed(settings, NOW)
        assert found == [a_ban()]
        assert problem.startswith(f"{file.path}: bans[1]: not an object")
        assert file.path.exists()

    def test_what_cannot_be_read_at_all(self, settings: Settings) -> None:
        settings.gateway.state_dir.write_text("")
        with pytest.raises(NotDone, match="cannot be read: Not a directory"):
            listed(settings, NOW)


class TestAnswer:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        Answer(7, 1.5, "why").write(tmp_path)
        assert Answer.read(tmp_path) == Answer(7, 1.5, "why")
        assert [path.name for path in tmp_path.iterdir()] == [ANSWER]

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 7}', "null"])
    def test_what_is_no_answer_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / ANSWER).write_text(text)
        assert Answer.read(tmp_path) is None


OWNER = """
import os, signal, sys, time
from pathlib import Path
from tidegate.app.bans import Answer
from tidegate.gateway.state import StateDir
state_dir, answer = Path(sys.argv[1]), sys.argv[2]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
Answer(os.getpid(), 0.0, "of long ago").write(state_dir)
StateDir(state_dir).lock("127.0.0.1:9883")
print("serving", flush=True)
signal.sigwait({signal.SIGUSR1})
if answer != "silence":
    Answer(os.getpid(), time.monotonic(), answer).write(state_dir)
sys.stdin.read()
"""


class Owner:
    """A process that has the state directory, as a gateway does, and says this of the bans."""

    def __init__(self, state_dir: Path, answer: str = "") -> None:
        state_dir.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(state_dir), answer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"serving\n"

    def __enter__(self) -> "Owner":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(GUARD)
        assert self.process.stdout is not None
        self.process.stdout.close()


class TestGateway:
    def test_it_is_told_and_answers(self, settings: Settings) -> None:
        with Owner(settings.gateway.state_dir) as owner:
            assert add(settings, EVE, 60.0, "", NOW).pid == owner.process.pid
        with Owner(settings.gateway.state_dir) as owner:
            assert remove(settings, EVE).pid == owner.process.pid

    def test_one_that_does_not_go_by_it_says_why(self, settings: Settings, file: BanFile) -> None:
        with Owner(settings.gateway.state_dir, "no memory") as owner, pytest.raises(NotDone) as caught:
            add(settings, EVE, 60.0, "", NOW)
        pid = owner.process.pid
        assert str(caught.value) == f"{file.path} is written, but the gateway (pid {pid}) does not go by it: no memory"
        assert len(file.read().entries) == 1

    def test_one_that_does_not_answer(self, settings: Settings, file: BanFile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bans, "PATIENCE", 0.05)
        with (
            Owner(settings.gateway.state_dir, "silence"),
            pytest.raises(NotDone, match=r"does not answer within 0\.05 s"),
        ):
            add(settings, EVE, 60.0, "", NOW)
        assert len(file.read().entries) == 1

    def test_one_that_ends_meanwhile_is_not_waited_for(self, settings: Settings) -> None:
        with Owner(settings.gateway.state_dir, "silence") as owner:
            assert owner.process.stdin is not None
            owner.process.stdin.close()  # which ends it, once it has been told
            assert add(settings, EVE, 60.0, "", NOW).pid is None

    @pytest.mark.parametrize(
        ("error", "told"),
        [(PermissionError(1, "Operation not permitted"), "cannot be told: Operation not permitted"), (None, None)],
    )
    def test_one_that_cannot_be_told(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: OSError | None, told: str | None
    ) -> None:
        def kill(pid: int, number: int) -> None:
            raise error or ProcessLookupError(3, "No such process")

        state = StateDir(settings.gateway.state_dir)
        state.lock("127.0.0.1:9883")
        monkeypatch.setattr(os, "kill", kill)
        if told is None:  # it has ended at this very moment
            assert add(settings, EVE, 60.0, "", NOW).pid is None
        else:
            with pytest.raises(NotDone, match=told):
                add(settings, EVE, 60.0, "", NOW)
        state.unlock()
