"""Every parser of `tidegate.mqtt` on arbitrary bytes: it parses or raises PacketError, whole and byte by byte.

`python fuzz/fuzz_mqtt.py [libFuzzer options]` needs atheris; `make fuzz` brings it. The first byte of an input
chooses version and direction, the rest is what arrives.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the examples, which are the seeds, and the reader of any packet

from support.malformed import MALFORMED, Malformed  # noqa: E402
from support.packets import EXAMPLES, Example, Packet, read_any, read_whole, write_any  # noqa: E402
from tidegate.mqtt.connect import Connect, peek_version  # noqa: E402
from tidegate.mqtt.errors import Fault, PacketError  # noqa: E402
from tidegate.mqtt.framing import Frame  # noqa: E402
from tidegate.mqtt.properties import read_properties, write_properties  # noqa: E402
from tidegate.mqtt.topics import check_filter, matches, share_of  # noqa: E402

VERSIONS = (3, 4, 5)

Outcome = list[Packet | Fault | bytes]
"""Packets in order; then the fault that ended the stream, or the bytes of a packet that is not all there."""


def seeds() -> list[bytes]:
    """One input per example and malformed packet."""
    cases: list[Example | Malformed] = [*EXAMPLES, *MALFORMED]
    return [bytes([VERSIONS.index(case.version) | case.from_client << 2]) + case.wire for case in cases]


def fuzz_one(data: bytes) -> None:
    """AssertionError, or any error but PacketError, is a find."""
    mode = data[0] if data else 0
    version = VERSIONS[(mode & 3) % 3]
    from_client = mode & 4 != 0
    stream = data[1:]
    whole = split([stream], version, from_client)
    assert split([stream[i : i + 1] for i in range(len(stream))], version, from_client) == whole
    for found in whole:
        if not isinstance(found, Fault | bytes):
            again = write_any(found, version)
            assert again is None or read_whole(again, version, from_client) == found
    try_version(stream)
    try_properties(stream)
    try_topics(stream)


def split(chunks: list[bytes], version: int, from_client: bool) -> Outcome:
    """What comes of a stream that arrives in these chunks; a PUBLISH is tried at each of them."""
    frame = Frame()
    outcome: Outcome = []
    rest = b""
    try:
        for chunk in chunks:
            rest += chunk
            while rest and frame.read(rest, 0):
                there = frame.end <= len(rest)
                if not there and rest[0] >> 4 != 3:
                    break
                found = read_any(rest, 0, frame.body, frame.end, version, from_client)
                if not there:
                    break
                assert found is not None, "a packet that is all there was not read"
                outcome.append(found)
                rest = rest[frame.end :]
    except PacketError as error:
        return [*outcome, error.fault]
    return [*outcome, rest]


def try_version(stream: bytes) -> None:
    """The version of a CONNECT is told with no more than its beginning, and is the one that it is read as."""
    version = peek_version(stream, 0, len(stream))
    try:
        connect = Connect.read(b"\x10" + stream, 0, 1, 1 + len(stream))
    except PacketError:
        return
    assert connect.version == version == peek_version(stream[:9], 0, len(stream))


def try_properties(stream: bytes) -> None:
    """The properties of each packet type, read and written."""
    for packet_type in range(16):
        try:
            found, end = read_properties(stream, 0, len(stream), packet_type)
        except PacketError:
            continue
        assert write_properties(found) == stream[:end]


def try_topics(stream: bytes) -> None:
    """Filters and what they match."""
    text, _, topic = stream.decode(errors="replace").partition("\n")
    try:
        check_filter(text)
    except PacketError:
        return
    _, rest = share_of(text)
    matches(rest, topic)
    if not set(rest) & set("+#"):
        assert matches(rest, rest)


def main() -> None:
    """Fuzz, from a corpus that begins with the seeds."""
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415  only this needs it

    corpus = ROOT / "build" / "fuzz" / "mqtt"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.instrument_all()
    # What a find leaves behind lies beside the corpus; options of the caller come later and win.
    atheris.Setup([sys.argv[0], f"-artifact_prefix={corpus}.", *sys.argv[1:], str(corpus)], fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
