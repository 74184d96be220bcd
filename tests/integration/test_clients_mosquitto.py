"""mosquitto_sub, mosquitto_pub and mosquitto_rr cannot tell the gateway from the broker behind it."""

import itertools
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.broker import Broker
from support.process import Process
from support.sides import Sides
from support.wait import GUARD, until

VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv5"}
FORMAT = "%t|%q|%r|%p"
FORMAT_V5 = "%t|%q|%r|%p|%C|%D|%P|%R|%S"
RUN = "<run>"

_runs = itertools.count(1)


@dataclass(frozen=True)
class Case:
    """`subscribe` runs until it has `count` messages, then leaves; T/ is the topic of the run."""

    name: str
    subscribe: str
    publish: tuple[str, ...]
    count: int
    before: tuple[str, ...] = ()
    """mosquitto_pub lines before the subscriber starts."""
    v5: bool = False


CASES = (
    Case("qos 0", "-t T/#", ("-t T/a -m hi",), 1),
    Case("qos 1", "-t T/# -q 1", ("-t T/a -m hi -q 1",), 1),
    Case("qos 2", "-t T/# -q 2", ("-t T/a -m hi -q 2", "-t T/b -m ho -q 2"), 2),
    Case("empty payload", "-t T/# -q 1", ("-t T/a -n -q 1",), 1),
    Case("many lines", "-t T/# -q 1", ("-t T/a -q 1 -l",), 3),
    Case("repeated", "-t T/# -q 2", ("-t T/a -q 2 -m again --repeat 5",), 5),
    Case("retained", "-t T/# -q 1", (), 1, before=("-t T/a -m kept -r -q 1",)),
    Case("not retained", "-t T/# -q 1 -R", ("-t T/a -m live -q 1",), 1, before=("-t T/a -m kept -r -q 1",)),
    Case("shared", "-t $share/RUN/T/# -q 1", ("-t T/a -m work -q 1",), 1),
    Case("filtered out", "-t T/# -T T/b -q 1", ("-t T/b -m no -q 1", "-t T/a -m yes -q 1"), 1),
    Case("properties", "-t T/# -q 1", (
        "-t T/a -m hi -q 1 -D publish content-type text/plain -D publish user-property k v "
        "-D publish correlation-data abc -D publish response-topic T/answer -D publish payload-format-indicator 1",
    ), 1, v5=True),
    Case("alias", "-t T/# -q 1", ("-t T/a -q 1 -m hi --repeat 3 -D publish topic-alias 1",), 3, v5=True),
    Case("subscription identifier", "-t T/# -q 1 -D subscribe subscription-identifier 7", ("-t T/a -m hi -q 1",), 1,
         v5=True),
)  # fmt: skip


def words(line: str, port: int, version: str, run: str) -> list[str]:
    """Arguments for the command line tools."""
    topical = line.replace("T/", f"{run}/").replace("RUN", run)
    return ["-h", "127.0.0.1", "-p", str(port), "-V", version, *topical.split()]


def publish(line: str, port: int, version: str, run: str) -> tuple[int, str, str]:
    """Exit code and output of one mosquitto_pub."""
    done = subprocess.run(
        ["mosquitto_pub", *words(line, port, version, run)],
        input="one\ntwo\nthree\n" if line.endswith("-l") else None,
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    return done.returncode, done.stdout.replace(run, RUN), done.stderr.replace(run, RUN)


def subscribed(broker: Broker, client_id: str) -> bool:
    """Whether the broker has answered a SUBSCRIBE of `client_id`: the tools buffer what they print."""
    return f"Sending SUBACK to {client_id}\n" in broker.log()


def play(case: Case, broker: Broker, port: int, version: str, directory: Path) -> tuple[object, ...]:
    """What all tools of a case printed and how they ended."""
    run = f"cli{next(_runs):04d}"
    seen = [publish(line, port, version, run) for line in case.before]
    form = FORMAT_V5 if version == "mqttv5" else FORMAT
    arguments = words(f"{case.subscribe} -C {case.count} -F {form} -i {run}", port, version, run)
    subscriber = Process(["mosquitto_sub", *arguments, "-W", str(int(GUARD))], directory / run)
    subscriber.start()
    try:
        until(lambda: subscribed(broker, run), "SUBACK")
        seen += [publish(line, port, version, run) for line in case.publish]
        code = subscriber.wait()
    finally:
        subscriber.end()
    lines = [line for line in subscriber.stdout().replace(run, RUN).splitlines() if line.startswith(RUN)]
    assert len(lines) == case.count, subscriber.stdout()
    return (seen, code, lines)


@pytest.mark.parametrize(
    ("version", "case"),
    [
        pytest.param(version, case, id=f"{name}-{case.name}")
        for name, version in VERSIONS.items()
        for case in CASES
        if version == "mqttv5" or not case.v5
    ],
)
def test_same_direct_and_through(sides: Sides, version: str, case: Case, tmp_path: Path) -> None:
    direct = play(case, sides.broker, sides.direct, version, tmp_path)
    assert play(case, sides.broker, sides.through, version, tmp_path) == direct


def request(broker: Broker, port: int, version: str, directory: Path) -> tuple[int, str]:
    """mosquitto_rr against a responder made of mosquitto_sub and mosquitto_pub."""
    run = f"cli{next(_runs):04d}"
    responder = Process(
        ["mosquitto_sub", *words("-t T/request -q 1 -C 1 -i RUN", port, version, run)], directory / f"{run}-responder"
    )
    asking = Process(
        ["mosquitto_rr", *words("-t T/request -e T/answer -q 1 -m ? -v", port, version, run), "-W", str(int(GUARD))],
        directory / f"{run}-asking",
    )
    responder.start()
    try:
        until(lambda: subscribed(broker, run), "the responder's SUBACK")
        asking.start()
        assert responder.wait() == 0
        publish("-t T/answer -m ! -q 1", port, version, run)
        code = asking.wait()
    finally:
        responder.end()
        asking.end()
    answer = [line for line in asking.stdout().splitlines() if line.startswith(run)]
    return code, "\n".join(answer).replace(run, RUN)


@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
def test_request_and_response(sides: Sides, version: str, tmp_path: Path) -> None:
    assert request(sides.broker, sides.direct, version, tmp_path) == (0, f"{RUN}/answer !")
    assert request(sides.broker, sides.through, version, tmp_path) == (0, f"{RUN}/answer !")


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
@pytest.mark.parametrize("credentials", ["", "-u plant -P secret", "-u plant -P guess", "-u nobody -P secret"])
def test_credentials(guarded_sides: Sides, version: str, credentials: str) -> None:
    line = f"-t T/a -m hi -q 1 {credentials}"
    direct = publish(line, guarded_sides.direct, version, "credentials")
    assert publish(line, guarded_sides.through, version, "credentials") == direct
    assert (direct[0] == 0) == ("secret" in credentials and "plant" in credentials)
