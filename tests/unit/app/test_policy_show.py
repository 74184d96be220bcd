import io
from dataclasses import replace

import pytest
from rich.console import Console

from tidegate.app.policy_explain import Answer, Met
from tidegate.app.policy_show import show

CLIENT = {
    "client_id": "c",
    "address": "10.0.0.1",
    "listener": "tcp://127.0.0.1:1883",
    "version": "5",
    "session": "new",
    "bridge": "false",
}
MESSAGE = {"topic": "a/b", "qos": "1", "retain": "false", "payload": "64B", "packet": "76B"}
FLOOD = Met(
    "flood",
    "/etc/[t].toml:7",
    None,
    [],
    {"client": "c", "ip/32/64": "10.0.0.1", "ip/24/56": "10.0.0.0/24"},
    {"rate": ["20/s burst 40", "600/min burst 600"], "size": ["1KiB"]},
    "reject",
    None,
    None,
    "PUBACK 0x97 (quota exceeded), with the reason and retry-after-ms",
    exempt=False,
    enforced=True,
)


SPARED = replace(FLOOD, exempt=True)


def answer(**changes: object) -> Answer:
    values: dict[str, object] = {
        "on": "publish",
        "client": CLIENT,
        "message": MESSAGE,
        "classes": [],
        "priority": "normal",
        "exempt": False,
        "verdict": "pass",
        "by": None,
        "met": [FLOOD],
        "not_met": {},
    }
    return Answer(**values | changes)  # type: ignore[arg-type]


def lines(told: Answer, *, width: int = 80, terminal: bool = False) -> list[str]:
    out = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    show(told, out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def test_all_is_told_a_fact_a_line() -> None:
    assert lines(answer(not_met={"retained": ["the message is not retained", "the QoS is not 2"]})) == [
        "client      c, from 10.0.0.1 to tcp://127.0.0.1:1883, MQTT 5",
        "message     a/b, QoS 1, payload 64B, packet 76B",
        "classes     none; priority normal",
        "verdict     the first passes, and so do the next while the budgets last",
        "",
        "flood  /etc/[t].toml:7",
        "  per         client: c",
        "  per         ip: 10.0.0.1",
        "  per         ip/24/56: 10.0.0.0/24",
        "  rate        20/s burst 40",
        "  rate        600/min burst 600",
        "  size        1KiB",
        "  on excess   reject: PUBACK 0x97 (quota exceeded), with the reason and retry-after-ms",
        "",
        "not met",
        "  retained    the message is not retained; the QoS is not 2",
    ]


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_terminal_gets_lines_that_fit_it_and_stay_in_their_column(width: int) -> None:
    told = answer(not_met={"a-limit-with-a-long-name": ["the topic does not match plant/+/set/#"]})
    shown = lines(told, width=width, terminal=True)
    assert all(len(line) <= max(width, 56) for line in shown)
    assert " ".join(" ".join(shown).split()) == " ".join(" ".join(lines(told)).split())
    if width == 60:
        at = shown.index("  on excess   reject: PUBACK 0x97 (quota exceeded), with the")
        assert shown[at + 1] == "              reason and retry-after-ms"


def test_a_pipe_gets_whole_lines() -> None:
    assert lines(answer(), width=20) == lines(answer(), width=200)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"met": []}, "passes: no limit meets it"),
        ({"verdict": "drop", "by": "flood"}, "drop by flood: it is too large"),
        (
            {"exempt": True, "met": [SPARED]},
            "passes, as do all: the client is exempt, which is counted and never limited",
        ),
    ],
)
def test_verdicts(changes: dict[str, object], verdict: str) -> None:
    assert f"verdict     {verdict}" in lines(answer(**changes))


@pytest.mark.parametrize(
    ("qos", "window", "verdict"),
    [
        ("1", "20", "the first passes, and so do the next while the budgets and windows last"),
        ("0", "20 (QoS 0 does not count)", "the first passes, and so do the next while the budgets last"),
    ],
)
def test_a_window_counts_what_is_acknowledged(qos: str, window: str, verdict: str) -> None:
    met = replace(FLOOD, budgets={"concurrent": ["20"]})
    shown = lines(answer(met=[met], message=MESSAGE | {"qos": qos}))
    assert f"  concurrent  {window}" in shown
    assert f"verdict     {verdict}" in shown


def test_who_and_what_in_other_words() -> None:
    client = CLIENT | {"client_id": "", "username": "u", "session": "kept", "bridge": "true", "version": "3.1"}
    client |= {"address": "unix", "listener": "unix:/s"}
    shown = lines(answer(client=client, message=MESSAGE | {"retain": "true"}, classes=["plc", "site"], priority="high"))
    assert shown[:3] == [
        "client      without a client id, user u, to unix:/s, MQTT 3.1, keeps its session, a bridge",
        "message     a/b, QoS 1, retained, payload 64B, packet 76B",
        "classes     plc, site; priority high",
    ]


def test_what_is_not_enforced_is_marked() -> None:
    later = replace(FLOOD, name="later", enforced=False)
    shown = lines(answer(met=[FLOOD, later]))
    assert shown[-1] == "  but         not enforced yet: serve refuses this limit"
    assert sum("not enforced" in line for line in shown) == 1


EARLY = replace(FLOOD, name="early", stage="accept", keys={"ip/32/64": "10.0.0.1"}, budgets={"concurrent": ["20"]})
LATE = replace(
    EARLY, name="late", stage="connect", awaits=['per "client"', "class plc"], budgets={"rate": ["1/s burst 1"]}
)


def test_a_connection() -> None:
    shown = lines(answer(on="connect", message={"packet": "17B"}, met=[EARLY, LATE]))
    assert shown[1] == "connects    by a CONNECT of 17B"
    assert shown[3] == "verdict     the first passes, and so do the next while the budgets and windows last"
    assert shown[shown.index("early  /etc/[t].toml:7") + 1 :][:3] == [
        "  decided     at accept, before anything is read",
        "  per         ip: 10.0.0.1",
        "  concurrent  20",
    ]
    assert shown[shown.index("late  /etc/[t].toml:7") + 1] == (
        '  decided     by CONNECT (per "client", class plc), and charged when the broker has accepted the client'
    )


def test_a_refusal_of_the_broker() -> None:
    shown = lines(answer(on="auth_failure", message={}, met=[replace(FLOOD, keys={"ip/32/64": "10.0.0.1"})]))
    assert shown[1] == "refused     by the broker, for its user name or password"


def test_who_is_exempt_from_some_limits_only() -> None:
    met = [EARLY, replace(LATE, exempt=True)]
    shown = lines(answer(on="connect", message={"packet": "17B"}, exempt=True, met=met))
    assert shown[3] == "verdict     the first passes, and so do the next while the budgets and windows last"
    assert [line for line in shown if line.startswith("  but")] == [
        "  but         that the client is exempt is not proven yet: it is limited like any other",
        "  but         the client is exempt: it is counted, and never limited",
    ]


def test_what_the_client_wrote_is_not_obeyed() -> None:
    shown = lines(answer(client=CLIENT | {"client_id": "[red]\x1b[2J"}))
    assert shown[0].startswith("client      [red]\\x1b[2J, from")
