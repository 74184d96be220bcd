"""Somebody guesses the password of a user who is at work: what he gets, and what the user notices.

Mosquitto has a password file. A limit on `auth_failure`, 5 a minute, bans who is over it, for three seconds, then for
four times as long; it counts per address and user name, and in a second run per address alone. The guesser, at an
address of his own, tries a wrong password again and again, in MQTT 3.1.1 and 5, and sends messages in the user's name
right behind each CONNECT. Once he is banned he also resets connections in the moment in which he has sent the right
password, when nobody can tell any more where they came from. Meanwhile four connections of the user publish; he has
limits of his own on connects and on messages, per user name, which the guesser must not use up. As soon as a ban has
ended the guesser goes on. In the middle of the second ban the gateway is started again: after SIGTERM in the first
run, after SIGKILL in the second. The broker's log tells what reached it.
"""

import socket
import subprocess
import time
from dataclasses import dataclass

from tidegate.mqtt.connect import Connect

from .claims import Claim, exactly, holds, none, within
from .company import Company
from .connections_setting import Setting
from .guestbook import Guestbook, start_noted
from .metrics import Metrics
from .peer import Acknowledged, Peer, heard, join, leave
from .stage import Stage, program, require
from .stormer import RESET
from .targets import Broker, Options, Target, start_target, wait_accepting

USER, PASSWORD = "alice", b"right"
OTHER_USER, OTHER_PASSWORD = "bob", b"right too"
GUESSER, ELSEWHERE = "127.0.0.66", "127.0.0.67"
FIRST, FACTOR = 3, 4
"""Seconds of the first ban, and how many times as long the second one lasts."""
FAILURES = 5
GUESSES = 20
"""At once, the first time."""
PIPELINED = 10
"""Messages in the user's name that a guesser sends behind each CONNECT."""
CLIENTS, EACH = 4, 5.0
CONNECTS = CLIENTS + 4
"""Of the user in an hour: a few more than come here, and fewer than there are guesses which reach the broker."""
MESSAGES = 20
"""Of the user to BUDGET in an hour."""
BUDGET = "budget"
POLICY = f"""\
[[limit]]
name = "guessing"
on = "auth_failure"
per = {{per}}
rate = "{FAILURES}/min"
on_excess = "ban"
ban = {{{{ first = "{FIRST}s", factor = {FACTOR}, max = "1h" }}}}

[[limit]]
name = "connects"
on = "connect"
per = "username"
username = "{USER}"
rate = "{CONNECTS}/h"
on_excess = "reject"
allow_lockout = true

[[limit]]
name = "messages"
per = "username"
topic = "{BUDGET}/#"
rate = "{MESSAGES}/h"
on_excess = "drop"
"""
RESETS = 20
RESET_SECONDS = 0.3
ANSWER_SECONDS = 5.0
REST_SECONDS = 1.0
AGAIN_SECONDS = 0.1
"""Between two guesses of one who is banned."""
RESTART_AFTER = 2.0
"""Seconds, of the second ban."""
LATE = 1.5
"""Seconds by which a ban may be longer: that long a guess may take, and the start of a gateway as much more."""
SETTLE_SECONDS = 10.0
BANNED = 0x8A
PASSED, LIMITED = "tidegate_passed_total", "tidegate_limited_total"
NOT_AUTHORISED = (0x05, 0x86, 0x87)
"""What Mosquitto says to a wrong password: 5 in MQTT 3, 0x87 in MQTT 5."""


@dataclass(frozen=True)
class Run:
    """One way to count."""

    per: str
    """As TOML."""
    kill: bool
    """SIGKILL before the gateway is started again, and not SIGTERM."""

    @property
    def bans_address(self) -> bool:
        """Whoever comes from there is banned."""
        return "username" not in self.per


RUNS = (Run('["ip", "username"]', kill=False), Run('"ip"', kill=True))


class Guesser:
    """Guesses, and what was answered to each."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[tuple[int, int | None]] = []
        """Version, and the reason of the CONNACK; None where there was none."""
        self._number = 0

    def guess(self, version: int) -> int | None:
        """One wrong password."""
        self._number += 1
        name = f"guess-{self._number}"
        peer = Peer(self.port, name, version, username=USER, password=b"wrong", source=GUESSER)
        for number in range(PIPELINED):
            peer.publish(f"{BUDGET}/{name}", b"", 1, number)
        reason = _answer(peer)
        self.answers.append((version, reason))
        return reason

    def go_on(self, guests: Guestbook, seconds: float) -> float:
        """Guess until one reaches the broker again, at most so many seconds; when that was."""
        before, deadline = guests.refused(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.guess(5)
            now = time.monotonic()
            if guests.refused() > before:
                return now
            time.sleep(AGAIN_SECONDS)
        return deadline


def guess(setting: Setting) -> list[Claim]:
    """The demonstration."""
    require(["mosquitto_passwd"])
    return [claim._replace(what=f"{run.per}: {claim.what}") for run in RUNS for claim in _run(setting, run)]


def _run(setting: Setting, run: Run) -> list[Claim]:
    options = Options(tidegate=setting.tidegate, policy=POLICY.format(per=run.per))
    with Stage() as stage:
        broker, guests = start_noted(stage, f"password_file {_passwords(stage)}\n")
        target = start_target(stage, "tidegate-unix", broker, options)
        company = Company(
            target.port, broker.tcp, clients=CLIENTS, each=EACH, topic="work", username=USER, password=PASSWORD
        )
        company.start()
        begin = time.monotonic()
        time.sleep(REST_SECONDS)
        guesser = Guesser(target.port)
        for number in range(GUESSES):
            guesser.guess((4, 5)[number % 2])
        reached = guests.refused()
        first = time.monotonic()
        claims = [*_who_may(run, target), *_gets_past(target, guests), *_has_budget(target)]
        second = guesser.go_on(guests, FIRST * 2)
        end = time.monotonic()
        company.stop(SETTLE_SECONDS)
        time.sleep(max(0.0, second + RESTART_AFTER - time.monotonic()))
        target = _again(stage, target, broker, options, run)
        guesser.port = target.port
        after_restart = guesser.guess(5)
        still = guests.refused()
        third = guesser.go_on(guests, FIRST * FACTOR * 2)
        figures = company.between(begin, end)
    told = [reason for _, reason in guesser.answers[:GUESSES]]
    print(f"  {run.per}: of {GUESSES} guesses, {_told(told)}; bans of {second - first:.1f} and {third - second:.1f} s")
    return [
        within("guesses that the broker saw", FAILURES, FAILURES + 1, reached, ""),
        none(
            "others that were told something else than that they are banned",
            [f"{reason}" for version, reason in guesser.answers[reached:GUESSES] if not _says_banned(version, reason)],
        ),
        within("first ban", FIRST - 0.5, FIRST + LATE, second - first, "s"),
        *claims,
        holds("banned still, once the gateway has been started again", after_restart not in NOT_AUTHORISED),
        exactly("guesses that the broker saw during two bans", reached + 1, still),
        within("second ban", FIRST * FACTOR - 0.5, FIRST * FACTOR + 2 * LATE, third - second, "s"),
        none("the user's connections that ended", company.trouble),
        exactly(f"his messages lost, of {figures.planned}", 0, figures.harm),
    ]


def _passwords(stage: Stage) -> str:
    path = stage.folder / "passwords"
    for option, user, password in (("-c", USER, PASSWORD), ("", OTHER_USER, OTHER_PASSWORD)):
        words = [str(program("mosquitto_passwd")), *([option] if option else []), "-b", str(path), user]
        subprocess.run([*words, password.decode()], check=True)
    return str(path)


def _answer(peer: Peer) -> int | None:
    """The reason of its CONNACK; None if it was closed without one, or has got none in time."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not peer.accepted and not peer.closed and time.monotonic() < deadline:
        for _ in heard([peer], 0.1):
            pass
    accepted, reason = peer.accepted, peer.reason
    peer.leave()
    return 0 if accepted else reason


def _says_banned(version: int, reason: int | None) -> bool:
    return reason is None or reason == (BANNED if version == 5 else 0x05)


def _told(reasons: list[int | None]) -> str:
    found = {reason: reasons.count(reason) for reason in reasons}
    return ", ".join(
        f"{count} closed" if reason is None else f"{count} told 0x{reason:02x}" for reason, count in found.items()
    )


def _who_may(run: Run, target: Target) -> list[Claim]:
    """Who is let in during the ban."""

    def enters(name: str, user: str, password: bytes, source: str) -> bool:
        return _answer(Peer(target.port, name, 5, username=user, password=password, source=source)) == 0

    return [
        holds("the user is let in from another address", enters("elsewhere", USER, PASSWORD, ELSEWHERE)),
        holds("but not from the guesser's", not enters("there", USER, PASSWORD, GUESSER)),
        exactly(
            "another user is, from the guesser's",
            not run.bans_address,
            enters("other", OTHER_USER, OTHER_PASSWORD, GUESSER),
        ),
    ]


def _gets_past(target: Target, guests: Guestbook) -> list[Claim]:
    """Whether the broker hears of connections that have been reset before anybody has accepted them."""
    before = guests.connections()
    for number in range(RESETS):
        with socket.socket() as sock:
            sock.bind((GUESSER, 0))
            sock.connect(("127.0.0.1", target.port))
            sock.sendall(Connect(4, False, True, 0, f"reset-{number}", USER, PASSWORD).write())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    time.sleep(RESET_SECONDS)
    return [exactly(f"connections at the broker, of {RESETS} that are reset", 0, guests.connections() - before)]


def _has_budget(target: Target) -> list[Claim]:
    """What the user's own limit lets pass is all that it has."""
    peer = Peer(target.port, "budget", 4, username=USER, password=PASSWORD)
    join([peer])
    for number in range(MESSAGES):
        peer.publish(f"{BUDGET}/own", b"", 1, number)
    acknowledged, deadline = 0, time.monotonic() + ANSWER_SECONDS
    while acknowledged < MESSAGES and time.monotonic() < deadline:
        for _, events in heard([peer], 0.1):
            acknowledged += sum(isinstance(event, Acknowledged) for event in events)
    leave([peer])
    metrics = Metrics(target.admin)
    return [
        exactly("messages of the user's budget that he still has", MESSAGES, metrics.sum(PASSED, limit="messages")),
        exactly("messages of his over it", 0, metrics.sum(LIMITED, limit="messages")),
        exactly("connects that count as his", CLIENTS + 2, metrics.sum(PASSED, limit="connects")),
    ]


def _again(stage: Stage, target: Target, broker: Broker, options: Options, run: Run) -> Target:
    """Start the gateway once more, with the same state."""
    if run.kill:
        pid = stage.kill_and_restart(target.pid)
        wait_accepting(stage, target.port, pid)
        return target
    stage.stop(target.pid)
    return start_target(stage, "tidegate-unix", broker, options)
