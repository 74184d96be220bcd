import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from support.ports import free_port
from tidegate.gateway.holder import Holder, holder
from tidegate.gateway.listeners import ListenError, bind, check_free, expect_answers, unlink_socket_files
from tidegate.policy.address import Address

ANY_PORT = Address(kind="tcp", host="127.0.0.1", port=0)


def tcp(port: int, host: str = "127.0.0.1") -> Address:
    return Address(kind="tcp", host=host, port=port)


def unix(path: Path) -> Address:
    return Address(kind="unix", path=str(path))


class Bound:
    """Sockets that the test's end closes."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, address: Address, workers: int) -> list[socket.socket]:
        sockets = bind(address, workers)
        self.sockets += sockets
        return sockets


@pytest.fixture
def bound() -> Iterator[Bound]:
    bound = Bound()
    yield bound
    for sock in bound.sockets:
        sock.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_every_worker_has_a_listening_socket_at_the_same_port(bound: Bound, workers: int) -> None:
    sockets = bound(ANY_PORT, workers)
    assert len(sockets) == workers
    assert len({sock.getsockname() for sock in sockets}) == 1
    assert sockets[0].getsockname()[1] != 0
    assert not any(sock.getblocking() for sock in sockets)
    socket.create_connection(sockets[0].getsockname()).close()


def test_a_connection_waits_in_the_socket_that_the_kernel_chose(bound: Bound) -> None:
    sockets = bound(ANY_PORT, 2)
    with socket.create_connection(sockets[0].getsockname()) as client:
        accepted = []
        for sock in sockets:
            try:
                accepted.append(sock.accept())
            except BlockingIOError:
                continue
        ((server, peer),) = accepted
        with closing(server):
            assert peer == client.getsockname()


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [1, 2])
def test_two_gateways_never_share_a_port(bound: Bound, first: int, second: int) -> None:
    taken = tcp(bound(ANY_PORT, first)[0].getsockname()[1])
    with pytest.raises(ListenError) as caught:
        bound(taken, second)
    me = psutil.Process()
    who = f"holder of {taken}: {me.name()} (pid {me.pid}, user {me.username()})"
    assert who in caught.value.text
    assert caught.value.fix == "stop that process, or choose another port"
    assert caught.value.address == taken


def test_a_port_that_every_address_holds_is_taken(bound: Bound) -> None:
    port = bound(tcp(0, "0.0.0.0"), 1)[0].getsockname()[1]
    with pytest.raises(ListenError, match=f"pid {os.getpid()}"):
        bound(tcp(port), 1)


def test_a_port_with_lingering_connections_is_free(bound: Bound) -> None:
    (sock,) = bound(ANY_PORT, 1)
    name = sock.getsockname()
    with socket.create_connection(name) as client:
        server, _ = sock.accept()
        server.close()  # the side that closes first lingers
        assert client.recv(1) == b""
    sock.close()
    bound(tcp(name[1]), 2)


def test_a_name_means_its_ipv4_address(bound: Bound) -> None:
    (sock,) = bound(tcp(0, "localhost"), 1)
    assert sock.getsockname()[0] == "127.0.0.1"


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_leaves_the_ipv4_port_alone(bound: Bound) -> None:
    port = free_port()
    bound(tcp(port, "::"), 2)
    bound(tcp(port), 1)
    socket.create_connection(("::1", port)).close()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ListenError, match="'nowhere\\.invalid'") as caught:
        bind(tcp(0, "nowhere.invalid"), 1)
    assert "/etc/hosts" in caught.value.fix


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ListenError, match="this machine has no such address"):
        bind(tcp(0, "192.0.2.1"), 2)  # TEST-NET-1, RFC 5737


def test_a_low_port_without_privilege_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    class Refusing(socket.socket):
        bind = refuse

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(ListenError, match="below 1024") as caught:
        bind(tcp(883), 1)
    assert "CAP_NET_BIND_SERVICE" in caught.value.fix


def test_a_holder_that_may_not_be_seen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = SimpleNamespace(laddr=("127.0.0.1", 1883), status=psutil.CONN_LISTEN, pid=None)
    monkeypatch.setattr(psutil, "net_connections", lambda _: [hidden])
    assert holder(tcp(1883)) == Holder()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run as root" in str(Holder())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "another container" in str(Holder())


def test_workers_share_one_unix_socket(bound: Bound, tmp_path: Path) -> None:
    path = tmp_path / "mqtt"
    first, second = bound(unix(path), 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert first.fileno() != second.fileno()
    assert not second.getblocking()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        second.accept()[0].close()
        with pytest.raises(BlockingIOError):
            first.accept()


def test_a_stale_socket_file_is_replaced(bound: Bound, tmp_path: Path) -> None:
    address = unix(tmp_path / "mqtt")
    bound(address, 1)[0].close()
    assert (tmp_path / "mqtt").exists()
    check_free(address)
    assert (tmp_path / "mqtt").exists()
    bound(address, 1)


def test_a_live_socket_is_taken(bound: Bound, tmp_path: Path) -> None:
    address = unix(tmp_path / "mqtt")
    bound(address, 1)
    for attempt in (lambda: bind(address, 1), lambda: check_free(address)):
        with pytest.raises(ListenError, match=f"holder of .*pid {os.getpid()}") as caught:
            attempt()
        assert caught.value.fix == "stop that process, or choose another path"


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is no socket"):
        bind(unix(path), 1)
    assert path.read_text() == "precious"


def test_a_missing_folder_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="there is no folder") as caught:
        bind(unix(tmp_path / "none" / "mqtt"), 1)
    assert caught.value.fix == f"mkdir -p {tmp_path / 'none'}"


def test_socket_files_are_removed_and_other_addresses_passed_over(bound: Bound, tmp_path: Path) -> None:
    address = unix(tmp_path / "mqtt")
    bound(address, 1)
    unlink_socket_files([ANY_PORT, address, address])
    assert not (tmp_path / "mqtt").exists()


def test_the_holder_is_named_when_it_is_another_process(tmp_path: Path) -> None:
    script = (
        "import socket, sys\n"
        "with socket.create_server(('127.0.0.1', 0)) as s:\n"
        "    print(s.getsockname()[1], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        address = tcp(int(process.stdout.readline()))
        with pytest.raises(ListenError, match=rf"\(pid {process.pid}, user "):
            check_free(address)
        process.stdin.close()


def test_clients_inherit_how_long_their_host_may_be_silent(bound: Bound) -> None:
    (listener,) = bound(ANY_PORT, 1)
    expect_answers(listener, 60.0)
    with socket.create_connection(listener.getsockname()) as client:
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getpeername() == client.getsockname()
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0, "not asked unless it is wanted"


def test_a_unix_sockets_client_cannot_vanish(bound: Bound, tmp_path: Path) -> None:
    (listener,) = bound(unix(tmp_path / "s"), 1)
    expect_answers(listener, 60.0)
