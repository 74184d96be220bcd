"""What is decided at accept would be decided in the same way if all of the client were known."""

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policies import arrivals, clients
from strategies import untimed
from support.engine_model import Client, Message, chosen, classes_of, concerns, key_of
from tidegate.policy.model import Event, Limit, Policy
from tidegate.policy.stages import Stage, stage_of
from tidegate.policy.strictness import of_number, of_rates

CONNECT = Message("", event=Event.CONNECT)


def seen(limit: Limit, policy: Policy, client: Client) -> object:
    """Whether the limit concerns a client, and then its key and numbers."""
    classes, captures = classes_of(client, policy)
    names = [one.name for one in classes]
    if not concerns(limit, client, names, captures):
        return None
    key = [key_of(one, client, CONNECT, names, captures) for one in limit.per]
    numbers = (chosen(limit.rate, names, of_rates), chosen(limit.concurrent, names, of_number))
    return key, numbers


@settings(untimed, max_examples=300)
@given(arrivals, st.lists(clients, min_size=1, max_size=5))
def test_nothing_that_a_client_says_changes_it(policy: Policy, clients: list[Client]) -> None:
    classes = {one.name: one for one in policy.classes}
    for limit in policy.limits:
        if limit.on is Event.CONNECT and stage_of(limit, classes) is Stage.EARLY:
            for client in clients:
                known = seen(limit, policy, client)
                event(f"concerns it: {known is not None}")
                assert known == seen(limit, policy, client.stranger)
