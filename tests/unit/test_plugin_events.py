"""What the plugin makes of the broker's calls, in whatever order they come."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fake_mosquitto import ACL_DENIED, DEFER, IGNORE, SUCCESS, FakeMosquitto, build
from tidegate.app.policy_compile import compile_to

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/mosquitto_plugin.h").exists(),
    reason="no headers: apt-get install mosquitto-dev libmosquitto-dev",
)
SECOND = 10**9


@pytest.fixture(scope="module", params=[False, True], ids=["2.0", "2.1"])
def version(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FakeMosquitto, bool]]:
    """A broker, and whether it is 2.1; one for all tests."""
    program = build(tmp_path_factory.mktemp("fake") / "broker", is_2_1=request.param)
    with FakeMosquitto(program) as made:
        yield made, request.param


@pytest.fixture
def fake(version: tuple[FakeMosquitto, bool]) -> Iterator[FakeMosquitto]:
    """The broker; the plugin ends with the test."""
    yield version[0]
    version[0].tell("X")


@pytest.fixture
def no_opinion(version: tuple[FakeMosquitto, bool]) -> int:
    """What the broker is told where no limit refuses."""
    return IGNORE if version[1] else DEFER


def limit(name: str, on: str, numbers: str, action: str) -> str:
    """One of a policy."""
    return f'[[limit]]\nname = "{name}"\non = "{on}"\n{numbers}\non_excess = "{action}"\n'


def compiled(directory: Path, *limits: str) -> Path:
    """The policy file of these limits."""
    (directory / "policy.toml").write_text("".join(limits))
    compile_to(directory / "policy.toml", directory / "policy.tgp")
    return directory / "policy.tgp"


def begin(fake: FakeMosquitto, directory: Path, *limits: str) -> None:
    """The plugin with these limits."""
    options = [("authentication", "others"), ("authorisation", "others")]
    assert fake.begin([("policy", str(compiled(directory, *limits))), *options]) == 0, fake.log


def connect(fake: FakeMosquitto, number: int, client_id: str | bytes = "c", user: str | None = None) -> int:
    """The answer to a CONNECT of 3.1.1 from 10.0.0.1."""
    return fake.tell("C", number, client_id, user, "10.0.0.1", 4)


def test_a_reload_ends_without_a_tick(fake: FakeMosquitto, no_opinion: int, tmp_path: Path) -> None:
    # 2.0 with per_listener_settings never ticks.
    begin(fake, tmp_path, limit("r", "connect", 'per = "ip"\nrate = "1/h burst 1"', "reject"))
    assert connect(fake, 0) == no_opinion
    assert connect(fake, 1, "d") != no_opinion
    fake.tell("R")
    assert connect(fake, 2, "e") == no_opinion, "asked of by the reload"
    fake.tell("N", 6 * SECOND)
    assert connect(fake, 3, "f") != no_opinion


def test_a_ban_is_logged_in_one_line(fake: FakeMosquitto, tmp_path: Path) -> None:
    begin(fake, tmp_path, limit("b", "publish", 'per = ["client", "ip"]\nrate = "1/h burst 1"', "ban"))
    for client_id in (b"x\ny\x7f", b"z" * 63, b"z" * 200):
        connect(fake, 0, client_id, "user")
        fake.tell("P", 0, "t", 0, False, 1)
        fake.tell("P", 0, "t", 0, False, 1)
        shown = client_id[:64].replace(b"\n", b"?").replace(b"\x7f", b"?").decode(errors="ignore")
        assert fake.log[-1] == f"tidegate: banned by limit b for 30 s: client {shown}"
        fake.tell("E", 0, False)


def test_who_comes_to_the_place_of_one_that_has_gone_leaves_no_will(
    version: tuple[FakeMosquitto, bool], fake: FakeMosquitto, no_opinion: int, tmp_path: Path
) -> None:
    # Not even at once: 2.1 ticks ten times a second, and an allocator gives back what was freed last.
    begin(fake, tmp_path, limit("w", "will", 'per = "ip"\nrate = "1/h burst 1"', "drop"))
    connect(fake, 0)
    fake.tell("D", 0)
    if version[1]:
        fake.tell("O", 0)
        assert [fake.tell("V", 0, "t", 0, False, 1) for _ in range(3)] == [no_opinion] * 3
    else:  # there is nothing that tells of it, but a will is sent once
        assert fake.tell("V", 0, "t", 0, False, 1) == no_opinion
        assert [fake.tell("V", 0, "t", 0, False, 1) for _ in range(3)] == [no_opinion] * 3


def test_who_was_in_before_failures_were_counted_has_not_failed(
    fake: FakeMosquitto, no_opinion: int, tmp_path: Path
) -> None:
    rate = limit("r", "connect", 'per = "ip"\nrate = "9/h burst 9"', "reject")
    begin(fake, tmp_path, rate)
    for number in range(3):
        connect(fake, number, f"c{number}")
        fake.tell("O", number)
    compiled(tmp_path, rate, limit("f", "auth_failure", 'per = "ip"\nrate = "1/h burst 1"', "ban"))
    fake.tell("R")
    fake.tell("T")
    for number in range(3):
        fake.tell("E", number, False)
    assert connect(fake, 3, "d") == no_opinion
    fake.tell("E", 3, True)
    connect(fake, 3, "d")
    fake.tell("E", 3, True)
    assert connect(fake, 3, "d") != no_opinion


def test_a_new_user_name_is_no_new_connection(fake: FakeMosquitto, no_opinion: int, tmp_path: Path) -> None:
    # As a plugin that reads tokens gives it.
    begin(
        fake,
        tmp_path,
        limit("n", "connect", 'per = "ip"\nconcurrent = 1', "reject"),
        limit("p", "publish", 'per = "username"\nrate = "2/h burst 2"', "disconnect"),
    )
    connect(fake, 0, "c", "token")
    fake.tell("U", 0, "plant")
    assert fake.tell("P", 0, "t", 0, False, 1) == SUCCESS
    assert connect(fake, 1, "d") != no_opinion, "it has its place still"
    fake.tell("E", 1, True)
    fake.tell("U", 0, "other")
    assert [fake.tell("P", 0, "t", 0, False, 1) == SUCCESS for _ in range(3)] == [True, True, False]
    fake.tell("E", 0, False)
    assert connect(fake, 1, "d") == no_opinion


def test_who_is_kicked_keeps_his_subscriptions(fake: FakeMosquitto, no_opinion: int, tmp_path: Path) -> None:
    begin(
        fake,
        tmp_path,
        limit("s", "subscribe", 'per = "client"\nrate = "1/h burst 1"', "reject"),
        limit("p", "publish", 'per = "client"\nrate = "1/h burst 1"', "disconnect"),
    )
    connect(fake, 0)
    assert fake.tell("S", 0, "t") == no_opinion
    assert [fake.tell("P", 0, "t", 0, False, 1) == SUCCESS for _ in range(2)] == [True, False]
    fake.tell("T")
    assert fake.kicks.pop() == "c"
    assert not fake.lost
    assert fake.tell("S", 0, "u") != no_opinion


def test_a_reload_takes_any_number_of_limits(fake: FakeMosquitto, tmp_path: Path) -> None:
    tight = limit("tight", "publish", 'per = "client"\nrate = "1/h burst 1"', "reject")
    begin(fake, tmp_path, tight)
    connect(fake, 0)
    others = [
        limit(f"l{number}", "publish", 'per = "client"\nrate = "9/h burst 9"', "reject") for number in range(1200)
    ]
    for limits in ([*others, tight], [tight], [*others, tight]):
        compiled(tmp_path, *limits)
        fake.tell("R")
        assert fake.log[-1].endswith(f"{len(limits)} limits of {tmp_path / 'policy.tgp'} are in force")
    assert [fake.tell("P", 0, "t", 0, False, 1) == SUCCESS for _ in range(2)] == [True, False]
    compiled(tmp_path, tight)
    fake.tell("R")
    assert fake.tell("P", 0, "t", 0, False, 1) != SUCCESS, "there was room for it: budgets stay"


def test_who_has_gone_before_a_reload_meets_no_limit_of_it(
    fake: FakeMosquitto, no_opinion: int, tmp_path: Path
) -> None:
    wills = [limit(f"w{number}", "will", 'per = "ip"\nrate = "9/h burst 9"', "drop") for number in range(300)]
    begin(fake, tmp_path, *wills)
    connect(fake, 0)
    fake.tell("D", 0)
    compiled(tmp_path, wills[0])
    fake.tell("R")
    assert fake.tell("V", 0, "t", 0, False, 1) == no_opinion


def test_the_will_of_whom_another_takes_over_is_a_will(fake: FakeMosquitto, no_opinion: int, tmp_path: Path) -> None:
    begin(fake, tmp_path, limit("w", "will", 'per = "client"\nrate = "1/h burst 1"', "drop"))
    connect(fake, 10, "other")
    found = []
    for number in range(3):
        connect(fake, number)
        assert fake.tell("V", 10, "t", 0, False, 1) == no_opinion, "it publishes"
        fake.tell("T")
        assert fake.tell("V", number, "t", 0, False, 1) == no_opinion, "it publishes"
        connect(fake, number + 1)
        found.append(fake.tell("V", number, "t", 0, False, 1))  # before its end
        fake.tell("E", number, False)
        assert fake.tell("V", number + 1, "t", 0, False, 1) == no_opinion, "it publishes"
        fake.tell("E", number + 1, False)
    assert found == [no_opinion, ACL_DENIED, ACL_DENIED]
    connect(fake, 0)
    connect(fake, 1)  # of somebody whom the broker refuses
    fake.tell("D", 1)
    assert fake.tell("V", 0, "t", 0, False, 1) == no_opinion, "it publishes"


def test_limits_that_are_asked_after_others_are_told_of(fake: FakeMosquitto, tmp_path: Path) -> None:
    publish = limit("p", "publish", 'rate = "9/h burst 9"', "reject")
    connections = limit("c", "connect", 'per = "ip"\nrate = "9/h burst 9"', "reject")
    begin(fake, tmp_path, publish, connections)
    assert "behind" not in str(fake.log)
    compiled(tmp_path, publish)
    fake.tell("R")
    assert "behind" not in str(fake.log)
    compiled(tmp_path, publish, connections)
    fake.tell("R")
    told = "whom another plugin or a file lets in is not limited: start Mosquitto again"
    assert sum(told in line for line in fake.log) == 1, fake.log
    fake.tell("R")
    assert sum(told in line for line in fake.log) == 1, fake.log
    compiled(tmp_path, publish, limit("s", "subscribe", 'per = "ip"\nrate = "9/h burst 9"', "reject"))
    fake.tell("R")
    assert "what another plugin or a file allows is not limited" in str(fake.log)


def test_an_option_that_is_given_twice_is_told_of(fake: FakeMosquitto, tmp_path: Path) -> None:
    file = str(compiled(tmp_path, limit("p", "publish", 'rate = "9/h burst 9"', "reject")))
    for option in (("policy", file), ("authentication", "open"), ("buckets", "4096")):
        assert fake.begin([("policy", file), ("authentication", "others"), ("buckets", "2048"), option]) != 0
        assert fake.log == [f"tidegate: plugin_opt_{option[0]} is there twice; keep one of the lines"]
    assert fake.begin([("policy", file), ("gateway", "10.0.0.1"), ("gateway", "10.0.0.2")]) == 0


def test_who_is_asked_about_again_has_not_come_again(fake: FakeMosquitto, no_opinion: int, tmp_path: Path) -> None:
    # 2.0 tells nobody else of a reload when one plugin answers that it went well.
    begin(fake, tmp_path, limit("r", "connect", 'per = "ip"\nrate = "2/h burst 2"', "reject"))
    for number in range(2):
        connect(fake, number, f"c{number}", "plant")
        fake.tell("O", number)
    for number in (0, 1, 0, 1):
        assert fake.tell("B", number) == no_opinion
    assert connect(fake, 2, "d") != no_opinion
    fake.tell("D", 1)
    assert fake.tell("B", 1) != no_opinion, "another, who has its memory"
