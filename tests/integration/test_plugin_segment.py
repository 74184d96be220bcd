"""The plugin beside a gateway: one budget for both, and the plugin goes on whatever becomes of the gateway."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import wire
from support.gateway import Gateway
from support.limited import Watcher, burst, join, metric, told, unique
from support.plugged import Plugged
from support.raw import CLOSED, RawClient
from support.wait import until

POLICY = '[[limit]]\nname = "ten"\ntopic = "ten/#"\nper = "all"\nrate = "10/h burst 10"\non_excess = "reject"\n'
OTHER = POLICY.replace("ten", "other")


@contextmanager
def both(directory: Path, policy: str = POLICY, options: str = "") -> Iterator[tuple[Gateway, Plugged]]:
    """A gateway that offers its segment, and the broker with the plugin, which knows it by its Unix socket."""
    segment = directory / "segment"
    own = directory / "b" / "mqtt.sock"
    broker = Plugged(directory / "b", None, segment=segment, options=f"plugin_opt_gateway {own}\n{options}")
    gateway = Gateway(directory / "g", f"unix:{own}", workers=1, extra=f'segment = "{segment}"', tables=policy)
    gateway.process.start()  # the broker needs its segment before it can be waited for
    try:
        until(segment.exists, "the segment")
        broker.start()
        gateway.end()
        until(lambda: not gateway.process.running(), "its end")
        gateway.start()
        yield gateway, broker
        assert broker.process.running(), broker.log()[-2000:]
    finally:
        broker.stop()
        gateway.end()


def send(client: RawClient, topic: str, count: int) -> None:
    """So many messages, taken or refused."""
    client.send(burst(client.version, topic, count))
    assert told(client) == []


def test_gateway_and_plugin_together_have_one_budget(tmp_path: Path) -> None:
    with both(tmp_path) as (gateway, broker):
        broker.says("1 limits of", 2)  # it has found the segment of the second start
        with (
            Watcher(broker, "#") as watcher,
            join(gateway.port, unique("through"), wire.V5) as through,
            join(broker.port, unique("direct"), wire.V5) as direct,
        ):
            send(through, "ten/a", 6)
            send(direct, "ten/a", 20)
            send(through, "ten/a", 20)
            assert len(watcher.messages()) == 10
            assert metric(gateway, "tidegate_limited_total", limit="ten", action="reject") == 36

            # The gateway is told of a new policy, and the plugin follows.
            gateway.reload(POLICY + OTHER)
            broker.says("2 limits of")
            send(direct, "other/a", 20)
            send(direct, "ten/a", 20)
            assert len(watcher.messages()) == 10

            # Killed, it leaves its limits in force.
            gateway.end()
            send(direct, "other/a", 20)
            assert watcher.messages() == []


def test_a_gateway_that_ends_takes_its_file_away(tmp_path: Path) -> None:
    with both(tmp_path) as (gateway, broker):
        broker.says("1 limits of", 2)
        gateway.stop()
        assert not (tmp_path / "segment").exists()
        broker.says("the gateway has taken it away; the 1 limits that were in force stay so")
        with Watcher(broker, "#") as watcher, join(broker.port, unique("c")) as client:
            send(client, "ten/a", 20)
            assert len(watcher.messages()) == 10
        gateway.start()
        broker.says("1 limits of", 3)


def test_bans_outlive_the_segment(tmp_path: Path) -> None:
    ban = (
        '[[limit]]\nname = "ban"\nper = "client"\nallow_lockout = true\nrate = "1/h burst 1"\non_excess = "ban"\n'
        'ban = { first = "2h", max = "3h" }\n'
    )
    with both(tmp_path, ban, "plugin_opt_authentication open") as (gateway, broker):
        broker.says("1 limits of", 2)
        client_id = unique("c")
        with join(broker.port, client_id) as client:
            client.send(burst(wire.V311, "t", 2))
            assert client.until_closed()[-1] == CLOSED
        broker.says("banned by limit ban for 7200 s")
        gateway.stop()
        gateway.start()
        broker.says("1 limits of", 3)
        with RawClient(broker.port, wire.V311) as client:
            client.send(wire.connect(wire.V311, client_id))
            assert wire.body_of(client.read() or b"")[1] == 5
        join(broker.port, unique("c")).close()


def test_a_segment_that_shrinks_is_left(tmp_path: Path) -> None:
    with both(tmp_path) as (_, broker):
        broker.says("1 limits of", 2)
        # Cut by one page, which nobody needs here: that is seen at the next look.
        os.truncate(tmp_path / "segment", (tmp_path / "segment").stat().st_size - 4096)
        broker.says("it has shrunk; the 1 limits that were in force stay so")
        with Watcher(broker, "#") as watcher, join(broker.port, unique("c")) as client:
            send(client, "ten/a", 20)
            assert len(watcher.messages()) == 10


def test_what_is_no_segment_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    for content, says in (
        (None, "cannot be opened: No such file or directory; start the gateway first"),
        (b"", "empty"),
        (b"x" * 100, "truncated: it has not even a head"),
        (b"x" * 10_000, "not a segment of Tidegate"),
    ):
        if content is not None:
            path.write_bytes(content)
        broker = Plugged(tmp_path / "b", None, segment=path)
        broker.process.start()
        assert broker.process.wait() != 0
        assert f"tidegate: {path}: {says}" in broker.log()


def test_a_segment_that_anybody_may_cut_short_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"x" * 10_000)
    path.chmod(0o666)
    broker = Plugged(tmp_path / "b", None, segment=path)
    broker.process.start()
    assert broker.process.wait() != 0
    assert f"tidegate: {path}: anybody may write it" in broker.log()
