import pytest

from tidegate.mqtt.errors import REASON_OF_FAULT, Fault, PacketError
from tidegate.mqtt.reasons import ReasonCode


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_a_reason_that_disconnect_or_connack_can_say(fault: Fault) -> None:
    error = PacketError(fault, "text")
    assert error.reason is REASON_OF_FAULT[fault]
    assert error.reason >= 0x80
    assert str(error) == error.text == "text"


def test_faults_are_numbered_without_gaps() -> None:
    # They are indices of a row of counters.
    assert [int(fault) for fault in Fault] == list(range(len(Fault)))
    assert len(Fault) <= 32


def test_a_reason_can_be_told_apart_from_the_faults_own() -> None:
    assert PacketError(Fault.FILTER, "", ReasonCode.PROTOCOL_ERROR).reason is ReasonCode.PROTOCOL_ERROR
