from pathlib import Path

import pytest

from tidegate.gateway.mosquitto import (
    FIRST_DELAY,
    LONGEST_DELAY,
    STEADY,
    BrokerError,
    check_socket_path,
    restart_delay,
    socket_path,
)


def test_delays_double_up_to_the_longest() -> None:
    delays = [restart_delay(0.0, 0.0)]
    while delays[-1] < LONGEST_DELAY:
        delays.append(restart_delay(delays[-1], STEADY - 1))
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0])
    assert restart_delay(LONGEST_DELAY, 0.0) == LONGEST_DELAY


def test_a_minute_of_life_is_a_fresh_start() -> None:
    assert restart_delay(LONGEST_DELAY, STEADY) == FIRST_DELAY


@pytest.mark.parametrize(("size", "fits"), [(107, True), (108, False)])
def test_the_socket_path_is_bounded_in_bytes(size: int, fits: bool) -> None:
    surplus = size - len(str(socket_path(Path("/"))).encode()) - len("/é".encode())
    path = socket_path(Path("/" + "é" + "x" * (surplus)))
    assert len(str(path).encode()) == size
    if fits:
        check_socket_path(path)
    else:
        with pytest.raises(BrokerError, match="1 bytes shorter"):
            check_socket_path(path)
