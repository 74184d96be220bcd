"""Who decides on connections, and by what: bare Mosquitto, HAProxy in three ways, and Tidegate with a limit.

They get the same numbers: of one address RATE connections a second, BURST at once, and OPEN at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .stage import Stage
from .targets import Broker, Options, Target, start_target

RATE, BURST, OPEN = 10, 60, 60
"""As many as come from one address when fifty clients that share it are started at once."""
TOGETHER, TOGETHER_BURST = 50, 60
"""Of everybody together, where the limit is one for all: a second, at once."""
RATE_SECONDS = 10
"""Over which HAProxy counts the connections of an address."""
CONNECT_SECONDS = 5
"""For CONNECT to be whole; gateway.connect_timeout by default."""
INSPECT = """\
 tcp-request inspect-delay {seconds}s
 tcp-request content accept if {{ req.payload(0,0),mqtt_is_valid }}
 tcp-request content reject
"""
"""No connection to the broker before CONNECT is whole."""
TABLE = f"""\
 stick-table type ip size 100k expire 60s store conn_rate({RATE_SECONDS}s),conn_cur
 tcp-request connection track-sc0 src
 tcp-request connection reject if {{ sc0_conn_rate gt {BURST + RATE * RATE_SECONDS} }}
 tcp-request connection reject if {{ sc0_conn_cur gt {OPEN} }}
"""
"""What it refuses counts as well: an address that goes on is let in no more."""
SESSIONS = f" rate-limit sessions {TOGETHER}\n"
"""Of the whole listener; what is beyond it waits in the kernel's queue, in the order in which it came."""
LIMIT = """\
[[limit]]
name = "connects"
on = "connect"
per = "{per}"
{numbers}
on_excess = "{action}"
"""


@dataclass(frozen=True)
class Door:
    """One way to keep a storm out."""

    name: str
    target: str
    """Of targets.py."""
    haproxy_rules: str = ""
    policy: str = ""
    budget: Callable[[float, int], float] | None = None
    """How many connections may be let in, within so many seconds, of so many addresses; None where nothing says it."""

    def start(self, stage: Stage, broker: Broker, tidegate: tuple[str, ...]) -> Target:
        """Start it in front of the broker."""
        options = Options(tidegate=tidegate, haproxy_rules=self.haproxy_rules, policy=self.policy)
        return start_target(stage, self.target, broker, options)


def _of_each(seconds: float, addresses: int) -> float:
    return addresses * (BURST + RATE * seconds)


def _of_all(seconds: float, _addresses: int) -> float:
    return TOGETHER_BURST + TOGETHER * seconds


def _each(action: str) -> Door:
    numbers = f'rate = "{RATE}/s burst {BURST}"\nconcurrent = {OPEN}'
    return Door(f"tidegate, {action}", "tidegate-unix", "", _limit("ip", numbers, action), _of_each)


def _limit(per: str, numbers: str, action: str) -> str:
    text = LIMIT.format(per=per, numbers=numbers, action=action)
    return text + 'max_delay = "2s"\nthen = "reject"\n' if action == "delay" else text


DROPPING = _each("drop")
STICK_TABLE = Door("haproxy, stick table", "haproxy", TABLE + INSPECT.format(seconds=CONNECT_SECONDS))
BARE = Door("mosquitto alone", "direct")
DOORS = (
    BARE,
    Door("haproxy, sessions", "haproxy", SESSIONS),
    STICK_TABLE,
    DROPPING,
    _each("reject"),
    _each("delay"),
    Door(
        "tidegate, delay all",
        "tidegate-unix",
        "",
        _limit("all", f'rate = "{TOGETHER}/s burst {TOGETHER_BURST}"', "delay"),
        _of_all,
    ),
)
