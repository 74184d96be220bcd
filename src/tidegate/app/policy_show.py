"""The answer of `tidegate policy explain` for people: a fact a line, so that it fits any terminal and any pipe."""

import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from ..policy.problems import printable
from .policy_explain import Answer, Met
from .policy_question import UNIX

_COLUMN = 12
"""Columns of a fact's name, unless one is longer: `concurrent` and a gap."""


def show(answer: Answer, out: Console) -> None:
    """Lines are wrapped on a terminal only: elsewhere a program may read them."""
    for name, value in (
        ("client", _client(answer.client)),
        _asked(answer),
        ("classes", f"{', '.join(answer.classes) or 'none'}; priority {answer.priority}"),
        ("verdict", _verdict(answer)),
    ):
        _fact(out, "", name, value)
    for met in answer.met:
        _met(out, met, answer)
    if answer.not_met:
        out.print()
        out.print(Text("not met", style="bold"))
        column = max(_COLUMN, *(len(name) + 2 for name in answer.not_met))
        for name, reasons in answer.not_met.items():
            _fact(out, "  ", name, "; ".join(reasons), column=column, style="dim")


def _met(out: Console, met: Met, answer: Answer) -> None:
    out.print()
    out.print(Text.assemble((met.name, "bold"), f"  {printable(met.place)}"), soft_wrap=True)
    facts = [*_facts(met, answer)]
    column = max(_COLUMN, *(len(name) + 2 for name, _ in facts))
    for name, value in facts:
        _fact(out, "  ", name, value, column=column)


def _facts(met: Met, answer: Answer) -> Iterator[tuple[str, str]]:
    if met.stage == "accept":
        yield "decided", "at accept, before anything is read"
    elif met.stage is not None:
        yield "decided", f"by CONNECT ({', '.join(met.awaits)}), and charged when the broker has accepted the client"
    is_uncounted = _is_uncounted(answer)
    for key, value in met.keys.items():
        yield "per", f"{key.removesuffix('/32/64')}: {value}"
    for name, budgets in met.budgets.items():
        for budget in budgets:
            yield name, f"{budget} (QoS 0 does not count)" if name == "concurrent" and is_uncounted else budget
    yield "on excess", f"{met.action}: {met.wire}"
    if met.exempt and not _is_spared(answer):
        yield "but", "the client is exempt: it is counted, and never limited"
    if answer.exempt and not met.exempt:
        yield "but", "that the client is exempt is not proven yet: it is limited like any other"
    if not met.enforced:
        yield "but", "not enforced yet: serve refuses this limit"


def _client(told: dict[str, str]) -> str:
    words = [told["client_id"] or "without a client id"]
    if "username" in told:
        words.append(f"user {told['username']}")
    source = "" if told["address"] == UNIX else f"from {told['address']} "
    words.append(f"{source}to {told['listener']}")
    words.append(f"MQTT {told['version']}")
    if told["session"] == "kept":
        words.append("keeps its session")
    if told["bridge"] == "true":
        words.append("a bridge")
    return ", ".join(words)


def _asked(answer: Answer) -> tuple[str, str]:
    match answer.on:
        case "connect":
            return "connects", f"by a CONNECT of {answer.message['packet']}"
        case "auth_failure":
            return "refused", "by the broker, for its user name or password"
        case "packet":
            return "packet", f"of {answer.message['packet']}, whatever it is"
        case "subscribe":
            return "subscribes", f"to {answer.message['filter']} with QoS {answer.message['qos']}"
        case "deliver":
            return "delivered", _message(answer.message)
        case "will":
            return "will", _message(answer.message)
    return "message", _message(answer.message)


def _is_uncounted(answer: Answer) -> bool:
    """Whether no window counts it."""
    return answer.on in ("publish", "deliver") and answer.message["qos"] == "0"


def _is_spared(answer: Answer) -> bool:
    """Whether nothing limits it."""
    return answer.exempt and all(met.exempt for met in answer.met)


def _message(told: dict[str, str]) -> str:
    retained = ", retained" if told["retain"] == "true" else ""
    return f"{told['topic']}, QoS {told['qos']}{retained}, payload {told['payload']}, packet {told['packet']}"


def _verdict(answer: Answer) -> str:
    if _is_spared(answer):
        return "passes, as do all: the client is exempt, which is counted and never limited"
    if answer.by is not None:
        much = "it asks for too much" if answer.on == "subscribe" else "it is too large"
        return f"{answer.verdict} by {answer.by}: {much}"
    if not answer.met:
        return "passes: no limit meets it"
    windowed = any("concurrent" in met.budgets for met in answer.met) and not _is_uncounted(answer)
    last = f"the first passes, and so do the next while the budgets {'and windows ' if windowed else ''}last"
    return last if answer.changed is None else f"{last}; {answer.changed}"


def _fact(out: Console, indent: str, name: str, value: str, *, column: int = _COLUMN, style: str = "") -> None:
    head = f"{indent}{name:{column}}"
    text = printable(value)
    if out.is_terminal:
        hang = " " * len(head)
        width = max(out.width - len(hang), len(hang))
        lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
        text = f"\n{hang}".join(lines)
    out.print(Text(head + text, style), soft_wrap=True)
