"""`tidegate init` writes what `tidegate serve` runs: with a broker of its own, and limits that hold."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from support import wire
from support.gateway import Gateway, tidegate_binary
from support.limited import burst, join, metric
from support.wait import GUARD

MakeGateway = Callable[..., Gateway]


def init(file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(tidegate_binary()), "init", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False)


def test_the_first_configuration_is_served_as_it_is(make_gateway: MakeGateway, tmp_path: Path) -> None:
    file = tmp_path / "first.toml"
    done = init(file)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"tidegate serve -c {file}" in done.stdout
    again = init(file)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"tidegate init: {file} exists and stays as it is; name another file, or remove it\n"

    # As it is, but for the places, which other tests have as well.
    gateway = make_gateway(None)
    places, admin = gateway.config.read_text().split("[admin]")
    text = file.read_text()
    assert text.count("\n[gateway]\n") == 1
    gateway.config.write_text(text.replace("\n[gateway]\n", f"\n{places}") + f"\n[admin]{admin}")
    gateway.start()
    with join(gateway.port, "first") as client:
        client.send(burst(wire.V311, "first/topic", 50, 1))  # forty pass at once, ten more wait for half a second
        acknowledged = [client.read() for _ in range(50)]
        assert acknowledged == [b"\x40\x02" + number.to_bytes(2, "big") for number in range(1, 51)]
    assert metric(gateway, "tidegate_limited_total", limit="flood", action="delay") > 0
    assert metric(gateway, "tidegate_limited_total", limit="flood", action="reject") == 0
    gateway.stop()
