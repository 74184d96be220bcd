"""Reasons are found exactly where the engine finds no match, and captures are the engine's."""

from dataclasses import fields

from hypothesis import given, settings

from policies import LARGEST_PACKET, Traffic, arrivals, clients, policies, subscribers, traffic
from strategies import untimed
from support.engine_model import Client as Whole
from support.engine_model import classes_of
from support.segments import segment
from tidegate.app.policy_match import Client, Message, captured, reasons_against
from tidegate.engine.binding import Engine
from tidegate.policy.compile import assign_slots, compile_policy, ordered
from tidegate.policy.events import MEANINGS
from tidegate.policy.model import Event, Policy
from tidegate.policy.stages import Stage


@settings(untimed, max_examples=300)
@given(policies | arrivals | subscribers, clients, traffic)
def test_a_limit_meets_a_message_when_nothing_is_against_it(policy: Policy, whole: Whole, messages: Traffic) -> None:
    engine = Engine(segment(), -1)
    engine.load(compile_policy(policy, assign_slots(policy), LARGEST_PACKET))
    subject = whole.subject()
    engine.resolve(subject)
    classes = [policy.classes[number] for number in subject.classes]
    client = Client(**{one.name: getattr(whole, one.name) for one in fields(Client)})
    captures = captured(classes, client)
    stages = ((whole.stranger.subject(), Stage.EARLY), (subject, Stage.LATE))
    assert captures == classes_of(whole, policy)[1]
    for _, _, told in messages.messages(1, policy):
        if MEANINGS[told.event].has_topics and not told.topic:
            continue
        message = Message(told.topic, told.qos, told.retain, told.payload, on=told.event)
        if told.event is Event.CONNECT:
            early, late = (engine.matching(who, b"", stage, event=told.event) for who, stage in stages)
            met = early + late
        else:
            met = engine.matching(subject, message.topic.encode(), message.qos, message.retain, told.event)
        for number, limit in enumerate(ordered(policy)):
            if limit.on is told.event:
                against = reasons_against(limit, client, message, [one.name for one in classes], captures)
                assert (number in met) == (not against), (limit, against)
