"""The loads: what every target is put through, in MQTT 3.1.1 and, by the same name with a 5, in MQTT 5."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scenario:
    """One load, in mqload's terms (`mqload.c` says what the options mean)."""

    name: str
    shows: str
    messages: int
    options: tuple[str, ...]
    subscribers: int = 0

    def arguments(self, messages: int) -> list[str]:
        """The command line behind `mqload -p PORT`."""
        subscribers = ["-S", str(self.subscribers)] if self.subscribers else []
        return [*self.options, *subscribers, "-n", str(messages)]


_V3 = (
    Scenario(
        "pingpong",
        "200 clients, QoS 1, one in flight: one message per read, the worst case of any proxy",
        100_000,
        ("-c", "200", "-q", "1", "-w", "1"),
    ),
    Scenario(
        "window",
        "200 clients, QoS 1, 50 in flight",
        200_000,
        ("-c", "200", "-q", "1", "-w", "50", "-b", "10", "-T", "50"),
    ),
    Scenario(
        "batch",
        "100 clients, QoS 0 stream: many messages per read",
        1_000_000,
        ("-c", "100", "-q", "0", "-b", "20", "-T", "50"),
    ),
    Scenario(
        "fanout",
        "1 publisher to 100 subscribers: the way down (per published message)",
        2_000,
        ("-c", "1", "-q", "1", "-w", "10"),
        subscribers=100,
    ),
    Scenario("lone", "1 client on an idle machine: added latency", 10_000, ("-c", "1", "-q", "1", "-w", "1")),
)
SCENARIOS = {
    scenario.name: scenario
    for v3 in _V3
    for scenario in (
        v3,
        replace(v3, name=f"{v3.name}5", shows=f"{v3.shows} (MQTT 5)", options=("-5", *v3.options)),
    )
}
