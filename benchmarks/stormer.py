"""Connections that come faster than they should, as a process of its own.

    python -m benchmarks.stormer --port PORT --rate N [--kinds silent,stalled,hasty,resetting]
                                 [--sources 127.1.0.1,...] [--total N] [--open 2000] [--prefix storm]

Opens --rate connections per second by a plan, from the addresses in turn, of the kinds in turn:

silent: sends nothing.
stalled: sends half of its CONNECT.
hasty: connects with a name and a password, and leaves as soon as it is accepted.
resetting: sends its CONNECT, and resets the connection in the same moment.
trickling: sends its CONNECT by one byte a second.
dribbling: once it is accepted, sends a PUBLISH by one byte a second.

Each stays for as long as it is let, but of more than --open at a time the oldest is given up. After --total no more
come. MQTT 3.1.1 and 5 take turns. Prints `ready` when it begins, goes on until SIGTERM, and then prints what it
counted, as JSON. It steps back where processors are short: it stands for machines of others.
"""

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import select
import signal
import socket
import struct
import time
from collections import Counter, OrderedDict, deque
from typing import Any

from tidegate.mqtt.connect import Connect

from .beside import READY, Beside
from .flooder import MOST_BEHIND_SECONDS, NICE
from .options import positive
from .stage import Stage, require_files
from .wire import publish_packet

KINDS = ("silent", "stalled", "hasty", "resetting", "trickling", "dribbling")
STORMING = KINDS[:4]
TICK_SECONDS = 0.002
"""Between two looks at the plan."""
BYTE_SECONDS = 1.0
"""Between two bytes of one that trickles or dribbles."""
NUMBER = b"########"
"""Where a ready-made CONNECT has what tells its client from the others."""
PAYLOAD = 200
"""Bytes of a dribbled PUBLISH: it takes minutes."""
DISCONNECT = b"\xe0\x00"
CONNACK = 0x20
READ_BYTES = 256
SPARE_FILES = 100
IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h: the port is chosen at connect(), and so may be one that is in use towards another port."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: the other side gets a RST, and the port is free at once."""


@dataclasses.dataclass
class Tally:
    """What became of the connections of one kind."""

    connects: int = 0
    accepted: int = 0
    """CONNACK 0."""
    refused: dict[str, int] = dataclasses.field(default_factory=dict)
    """Other CONNACKs, by their code in hexadecimal."""
    closed: int = 0
    """Closed by the other side, unless it was a CONNACK's end."""
    failed: dict[str, int] = dataclasses.field(default_factory=dict)
    """Never connected, by the kernel's name of the error."""
    given_up: int = 0
    """By ourselves; all that reset."""
    still_open: int = 0
    """At the end."""
    shortest: float = 0.0
    longest: float = 0.0
    """Seconds that those which the other side closed were there; a dribbling one since it was accepted."""

    def refuse(self, code: int) -> None:
        """One more was told so."""
        name = f"0x{code:02x}"
        self.refused[name] = self.refused.get(name, 0) + 1

    def fail(self, code: int) -> None:
        """One more could not connect."""
        name = errno.errorcode.get(code, str(code))
        self.failed[name] = self.failed.get(name, 0) + 1


@dataclasses.dataclass
class Counts:
    """What a storm has done."""

    seconds: float
    cpu: float
    """Of one core, that the storm itself used."""
    due: int
    """Connections, by its plan."""
    kinds: dict[str, Tally]

    @property
    def connects(self) -> int:
        """Connections that were tried."""
        return sum(tally.connects for tally in self.kinds.values())

    @property
    def closed(self) -> int:
        """Those that the other side closed without a CONNACK that refuses."""
        return sum(tally.closed for tally in self.kinds.values())

    @property
    def refused(self) -> int:
        """Those that were told."""
        return sum(sum(tally.refused.values()) for tally in self.kinds.values())

    @property
    def accepted(self) -> int:
        """CONNACKs of success."""
        return sum(tally.accepted for tally in self.kinds.values())

    def outcomes(self) -> str:
        """In words, what there was of each."""
        answers = sum((Counter(tally.refused) for tally in self.kinds.values()), Counter[str]())
        failures = sum((Counter(tally.failed) for tally in self.kinds.values()), Counter[str]())
        found = {
            "accepted": self.accepted,
            **{f"told {code}": count for code, count in sorted(answers.items())},
            "closed": self.closed,
            **{f"failed with {name}": count for name, count in sorted(failures.items())},
            "given up": sum(tally.given_up for tally in self.kinds.values()),
            "still there": sum(tally.still_open for tally in self.kinds.values()),
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count)


class Knock:
    """One connection."""

    __slots__ = ("accepted", "begin", "kind", "said", "socket", "unsent")

    def __init__(self, kind: str, sock: socket.socket, begin: float, unsent: bytes) -> None:
        self.kind = kind
        self.socket = sock
        self.begin = begin
        self.unsent = unsent
        """What it has to say at once; of one that trickles, what it says bit by bit."""
        self.said = False
        """All of what it has to say at once."""
        self.accepted = False


class Stormer:
    """All the connections of one process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._place = ("127.0.0.1", arguments.port)
        self._rate: float = arguments.rate
        self._total: int = arguments.total
        self._most: int = arguments.open
        self._kinds: list[str] = arguments.kinds
        self._sources: list[str] = arguments.sources
        name = f"{arguments.prefix}-".encode() + NUMBER
        self._packets = [
            Connect(version, False, True, 60, name.decode(), "storm", b"secret").write() for version in (4, 5)
        ]
        self._tallies = {kind: Tally() for kind in self._kinds}
        self._open: OrderedDict[int, Knock] = OrderedDict()
        self._slow: deque[tuple[float, Knock]] = deque()
        """Those that say a byte at a time, and when the next one is due."""
        self._poll = select.epoll()
        self._due = self._connects = 0
        self._stopped = False

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True

    def run(self) -> Counts:
        """Storm until `stop`."""
        print(READY, flush=True)
        begin = last = time.monotonic()
        cpu = time.process_time()
        owed = 0.0
        while not self._stopped:
            now = time.monotonic()
            owed += min(now - last, MOST_BEHIND_SECONDS) * self._rate
            last = now
            while owed >= 1:
                owed -= 1
                self._come(now)
            self._trickle(now)
            for fd, events in self._poll.poll(TICK_SECONDS):
                self._happened(fd, events)
        elapsed = time.monotonic() - begin
        for knock in self._open.values():
            self._tallies[knock.kind].still_open += 1
        return Counts(elapsed, (time.process_time() - cpu) / elapsed, self._due, self._tallies)

    def _come(self, now: float) -> None:
        if self._total and self._due >= self._total:
            return
        number = self._due
        self._due += 1
        kind = self._kinds[number % len(self._kinds)]
        in_turn = number // len(self._kinds)
        tally = self._tallies[kind]
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            sock.bind((self._sources[in_turn % len(self._sources)], 0))
            code = sock.connect_ex(self._place)
        except OSError as error:
            code = error.errno or errno.EIO
        tally.connects += 1
        if code not in (0, errno.EINPROGRESS):
            tally.fail(code)
            sock.close()
            return
        packet = self._packets[in_turn // len(self._sources) % 2].replace(NUMBER, b"%08d" % number)
        says = {"silent": b"", "stalled": packet[: len(packet) // 2]}.get(kind, packet)
        knock = Knock(kind, sock, now, says)
        if kind == "trickling":
            self._slow.append((now, knock))
            knock.said = True
        self._poll.register(sock, select.EPOLLIN)
        self._open[sock.fileno()] = knock
        if not knock.said and not self._say(knock):
            self._poll.modify(sock, select.EPOLLIN | select.EPOLLOUT)
        if kind == "resetting" and knock.said:
            self._give_up(knock)
        elif len(self._open) > self._most:
            self._give_up(next(iter(self._open.values())))

    def _say(self, knock: Knock) -> bool:
        """Send what it has to say at once; was that possible? By loopback it mostly is connected already."""
        try:
            if knock.unsent:
                knock.socket.send(knock.unsent)  # no more than a few bytes: all or nothing
        except BlockingIOError:
            return False
        except OSError:  # reading tells
            return True
        knock.said = True
        return True

    def _trickle(self, now: float) -> None:
        while self._slow and self._slow[0][0] <= now:
            due, knock = self._slow.popleft()
            if knock.socket.fileno() < 0 or not knock.unsent:
                continue
            try:
                knock.socket.send(knock.unsent[:1])
                knock.unsent = knock.unsent[1:]
            except BlockingIOError:
                pass
            except OSError:  # reading tells
                continue
            self._slow.append((due + BYTE_SECONDS, knock))

    def _happened(self, fd: int, events: int) -> None:
        knock = self._open.get(fd)
        if knock is None:  # given up in this turn
            return
        if events & select.EPOLLOUT and not knock.said and self._say(knock):
            self._poll.modify(fd, select.EPOLLIN)
            if knock.kind == "resetting":
                self._give_up(knock)
                return
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = knock.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                self._tallies[knock.kind].fail(error.errno or 0)
                self._forget(knock)
                return
            data = b""
        self._heard(knock, data)

    def _heard(self, knock: Knock, data: bytes) -> None:
        tally = self._tallies[knock.kind]
        if not data:
            self._closed(knock, tally)
        elif not knock.accepted and data[0] == CONNACK and len(data) > 3:
            if data[3]:
                tally.refuse(data[3])
                self._forget(knock)
                return
            tally.accepted += 1
            knock.accepted = True
            knock.begin = time.monotonic()
            if knock.kind == "hasty":
                with contextlib.suppress(OSError):  # closed in the meantime
                    knock.socket.send(DISCONNECT)
                self._forget(knock)
            elif knock.kind == "dribbling":
                knock.unsent = publish_packet("dribble", bytes(PAYLOAD), 0)
                self._slow.append((knock.begin, knock))

    def _closed(self, knock: Knock, tally: Tally) -> None:
        lasted = time.monotonic() - knock.begin
        tally.closed += 1
        tally.shortest = min(tally.shortest, lasted) if tally.closed > 1 else lasted
        tally.longest = max(tally.longest, lasted)
        self._forget(knock)

    def _give_up(self, knock: Knock) -> None:
        self._tallies[knock.kind].given_up += 1
        knock.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._forget(knock)

    def _forget(self, knock: Knock) -> None:
        del self._open[knock.socket.fileno()]
        knock.socket.close()


def sources(count: int) -> list[str]:
    """So many addresses of 127.0.0.0/8 that nobody else here comes from."""
    return [f"127.1.{number >> 8}.{number & 255}" for number in range(1, count + 1)]


class Storm(Beside):
    """The process, on a stage. What it counted is there once it has been stopped."""

    def __init__(self, stage: Stage, name: str, port: int, rate: float, **options: str | int) -> None:
        """`name` must not have been used on this stage; `options` are of the command line."""
        super().__init__(stage, name, "stormer", port=port, rate=rate, **options)

    def stop(self) -> Counts:
        """End it; what it counted."""
        told: dict[str, Any] = self.end()
        kinds = {kind: Tally(**tally) for kind, tally in told.pop("kinds").items()}
        return Counts(**told, kinds=kinds)


def kinds(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return names


def main() -> None:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.stormer"
    )
    line.add_argument("--port", type=positive, required=True)
    line.add_argument("--rate", type=float, required=True, metavar="N", help="connections per second")
    line.add_argument("--kinds", type=kinds, default=list(STORMING), metavar="KIND,...")
    line.add_argument("--sources", type=lambda text: text.split(","), default=sources(4), metavar="ADDRESS,...")
    line.add_argument("--total", type=int, default=0, metavar="N", help="connections in all; 0: no end")
    line.add_argument("--open", type=positive, default=2000, metavar="N", help="connections at a time")
    line.add_argument("--prefix", default="storm", help="of client identifiers")
    arguments = line.parse_args()
    require_files(arguments.open + SPARE_FILES)
    os.nice(NICE)
    stormer = Stormer(arguments)
    signal.signal(signal.SIGTERM, lambda *_: stormer.stop())
    print(json.dumps(dataclasses.asdict(stormer.run())))


if __name__ == "__main__":
    main()
