import os
from pathlib import Path

import pytest

from tidegate.policy.address import Address
from tidegate.policy.problems import BadValue
from tidegate.policy.values import (
    default_state_dir,
    read_admin_address,
    read_broker,
    read_buckets,
    read_hold_messages,
    read_max_keepalive,
    read_state_dir,
    read_token_file,
    read_workers,
)


@pytest.fixture
def no_place(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for variable in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def test_state_goes_where_systemd_says_then_xdg_then_home(no_place: pytest.MonkeyPatch) -> None:
    no_place.setenv("HOME", "/home/me")
    assert default_state_dir() == Path("/home/me/.local/state/tidegate")
    no_place.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir() == Path("/home/me/.local/state/tidegate")
    no_place.setenv("XDG_STATE_HOME", "/xdg")
    assert default_state_dir() == Path("/xdg/tidegate")
    no_place.setenv("STATE_DIRECTORY", "/var/lib/tidegate:/var/lib/other")
    assert default_state_dir() == Path("/var/lib/tidegate")


def test_nowhere_to_put_state(no_place: pytest.MonkeyPatch) -> None:
    no_place.setenv("HOME", "nowhere")
    with pytest.raises(BadValue, match="no home directory"):
        default_state_dir()


@pytest.mark.parametrize("value", ["", 5, "a\0b", []])
def test_not_a_path(value: object) -> None:
    with pytest.raises(BadValue, match="not a path"):
        read_state_dir(value)


def test_paths_are_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_state_dir("//var/lib/x/") == Path("/var/lib/x")
    with pytest.raises(BadValue) as raised:
        read_state_dir("x")
    assert str(raised.value) == f'not an absolute path; write it whole: "{tmp_path}/x"'


def test_workers() -> None:
    assert read_workers(1) == 1
    assert read_workers(64) == 64
    assert read_workers("auto") == min(64, len(os.sched_getaffinity(0)))
    for wrong in (0, 65, "2", True, 1.0, None):
        with pytest.raises(BadValue, match="not a number of processes"):
            read_workers(wrong)


def test_max_keepalive() -> None:
    assert read_max_keepalive(None) == 0
    assert read_max_keepalive("1s") == 1
    assert read_max_keepalive("1.5min") == 90
    assert read_max_keepalive("18h") == 64_800
    for value, text in (
        (60, 'a time needs its unit; write "60s" if seconds are meant'),
        ("1500ms", 'MQTT counts a keepalive in whole seconds; write for instance "2s"'),
        ("19h", 'out of range; write "1s" to "18h"'),
    ):
        with pytest.raises(BadValue) as raised:
            read_max_keepalive(value)
        assert str(raised.value) == text


def test_broker() -> None:
    assert read_broker(None) is None
    assert read_broker("tcp://h:1") == Address("tcp", "h", 1)
    for value, text in (
        ([], "failover is not supported yet; name one broker"),
        ("tcp://h:0", "port 0 is no port to connect to; write the broker's, usually 1883"),
        ("", "empty; name the broker's address, or remove the key for a Mosquitto of our own"),
    ):
        with pytest.raises(BadValue) as raised:
            read_broker(value)
        assert str(raised.value) == text


def test_admin_address() -> None:
    assert read_admin_address("[::1]:0") == Address("tcp", "::1", 0)
    for value, text in (
        (False, "the admin endpoint cannot be turned off"),
        ("", "the admin endpoint cannot be turned off"),
        (9883, "not an address"),
        ("unix:/x", "a Unix socket is not supported yet"),
        ("tcp://127.0.0.1:9883", "an address without tcp:// or http:// is wanted"),
        ("u:p@h:1", "no user or password"),
        ("127.0.0.1", "there is no port"),
    ):
        with pytest.raises(BadValue) as raised:
            read_admin_address(value)
        assert raised.value.text.startswith(text)


def test_token_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b" s3cret-Token~=\n")
    read = read_token_file(str(file))
    assert read is not None
    assert (read.path, read.token) == (file, "s3cret-Token~=")
    assert "s3cret" not in repr(read)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"two words", "the file holds more than one word of ASCII"),
        (b"a\nb\n", "the file holds more than one word of ASCII"),
        ("é".encode(), "the file holds more than one word of ASCII"),
        (b"x" * 4097, "the file is larger than 4096 bytes"),
    ],
)
def test_a_token_that_could_not_be_sent(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(BadValue) as raised:
        read_token_file(str(file))
    assert raised.value.text == text


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, text in (
        (tmp_path / "absent", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (fifo, "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(BadValue) as raised:
            read_token_file(str(path))
        assert raised.value.text == text


@pytest.mark.parametrize(("value", "buckets"), [(4096, 4096), (4097, 8192), (1 << 26, 1 << 26), (262144, 1 << 18)])
def test_buckets_are_a_power_of_two(value: int, buckets: int) -> None:
    assert read_buckets(value) == buckets


@pytest.mark.parametrize("value", [4095, (1 << 26) + 1, "4096", True, 5000.0, None])
def test_not_a_number_of_buckets(value: object) -> None:
    with pytest.raises(BadValue, match="not a number of buckets; write 4096 to 67108864"):
        read_buckets(value)


def test_messages_of_a_hold() -> None:
    assert read_hold_messages(1) == 1
    assert read_hold_messages(10_000) == 10_000
    for wrong in (0, 10_001, "100", True, 100.0, None):
        with pytest.raises(BadValue, match="not a number of messages; write 1 to 10000"):
            read_hold_messages(wrong)
