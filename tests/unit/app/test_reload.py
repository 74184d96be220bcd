import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from support.record_log import RecordLog
from support.wait import GUARD
from tidegate.app import reload
from tidegate.app.reload import REPORT, NotReloaded, Reloader, Report, request
from tidegate.gateway.policy_host import PolicyHost
from tidegate.gateway.state import StateDir
from tidegate.gateway.supervisor import Supervisor
from tidegate.policy.settings import Settings, load

LIMIT = '[[limit]]\nname = "{}"\nrate = "1/s"\non_excess = "drop"\n'
A_REPORT = Report(7, "/etc/t.toml", 1, 2, 3, ["wrong"], ["note"])


class FakeSupervisor:
    """Counts the times that it is told to have the workers read the new policy, and what was in force then."""

    def __init__(self, host: PolicyHost) -> None:
        self.host = host
        self.told: list[int] = []

    async def reload(self) -> None:
        self.told.append(self.host.generation)


class Gateway:
    """As much of a gateway as reloads: its file, its policy, its log."""

    def __init__(self, folder: Path, *, configured: bool = True, text: str = LIMIT.format("a")) -> None:
        self.file = folder / "t.toml"
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.write(text)
        self.settings = load(self.file)
        gateway = self.settings.gateway
        self.host = PolicyHost(
            self.settings.policy, workers=1, buckets=gateway.buckets, largest_packet=gateway.max_packet
        )
        self.log = RecordLog()
        self.reloader = Reloader(self.settings, self.file if configured else None, self.host, self.log)
        self.supervisor = FakeSupervisor(self.host)

    def write(self, text: str, gateway: str = "") -> None:
        self.file.write_text(f'[gateway]\nstate_dir = "{self.state_dir}"\nbuckets = 4096\n{gateway}{text}')

    async def reload(self) -> Report:
        await self.reloader.reload(cast(Supervisor, self.supervisor))
        return self.report

    @property
    def report(self) -> Report:
        report = Report.read(self.state_dir)
        assert report is not None
        return report

    @property
    def limits(self) -> list[str]:
        return [limit.name for limit in self.host.policy.limits]

    def close(self) -> None:
        os.close(self.host.fd)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.close()


class TestReport:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        A_REPORT.write(tmp_path)
        assert Report.read(tmp_path) == A_REPORT
        later = replace(A_REPORT, attempts=2, config=None)
        later.write(tmp_path)
        assert Report.read(tmp_path) == later
        assert [path.name for path in tmp_path.iterdir()] == [REPORT]

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 7}', '{"nonsense": 1}', "null", "\udcff"])
    def test_what_is_no_report_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / REPORT).write_text(text, errors="surrogateescape")
        assert Report.read(tmp_path) is None

    def test_there_may_be_none(self, tmp_path: Path) -> None:
        assert Report.read(tmp_path) is None
        assert Report.read(tmp_path / "none") is None


class TestReloader:
    def test_the_start_is_a_report_too(self, gateway: Gateway) -> None:
        assert gateway.report == Report(os.getpid(), str(gateway.file), 0, 1, 1, [], [])
        assert gateway.reloader.failures == 0

    async def test_a_new_policy_is_in_force_and_the_workers_are_told_then(self, gateway: Gateway) -> None:
        gateway.write(LIMIT.format("b") + LIMIT.format("c"))
        report = await gateway.reload()
        assert report == Report(os.getpid(), str(gateway.file), 1, 2, 2, [], [])
        assert gateway.limits == ["b", "c"]
        assert gateway.supervisor.told == [2]
        assert gateway.log.said == [("info", "policy reloaded", {"limits": 2, "generation": 2})]

    async def test_a_wrong_file_changes_nothing(self, gateway: Gateway) -> None:
        gateway.write('[[limit]]\nname = "b"\nrate = 5\ntopik = "a"\n')
        report = await gateway.reload()
        assert [line.split(": ")[0] for line in report.problems] == [f"{gateway.file}:6", f"{gateway.file}:7"]
        assert (report.attempts, report.generation, report.limits) == (1, 1, 1)
        assert gateway.limits == ["a"]
        assert gateway.supervisor.told == []
        assert gateway.reloader.failures == 1
        assert gateway.log.of("error") == [("reload changed nothing", {"reason": line}) for line in report.problems]
        assert not gateway.log.of("info")

    async def test_a_file_that_is_gone_changes_nothing(self, gateway: Gateway) -> None:
        gateway.file.unlink()
        report = await gateway.reload()
        assert report.problems[0].startswith(f"{gateway.file}: cannot be read: No such file or directory")
        assert gateway.limits == ["a"]

    async def test_a_limit_that_would_not_hold_changes_nothing(self, gateway: Gateway) -> None:
        gateway.write(LIMIT.format("b") + LIMIT.format("c") + "shared = true\n")
        report = await gateway.reload()
        (problem,) = report.problems
        assert problem.startswith(f"{gateway.file}:12: limit.shared = true: not enforced yet: ")
        assert gateway.limits == ["a"]
        assert gateway.supervisor.told == []

    async def test_more_limits_than_there_is_room_for_change_nothing(self, gateway: Gateway) -> None:
        gateway.write("".join(LIMIT.format(f"l{number}") for number in range(gateway.host.segment.slots + 1)))
        report = await gateway.reload()
        (problem,) = report.problems
        assert problem.startswith(f"{gateway.file}: more limits than the {gateway.host.segment.slots}")
        assert gateway.limits == ["a"]
        assert gateway.supervisor.told == []

    async def test_after_a_failure_the_next_one_succeeds(self, gateway: Gateway) -> None:
        gateway.write("nonsense")
        assert (await gateway.reload()).problems
        gateway.write(LIMIT.format("b"))
        report = await gateway.reload()
        assert (report.attempts, report.generation, report.problems) == (2, 2, [])
        assert gateway.reloader.failures == 1

    async def test_what_takes_a_restart_is_noted_with_its_line(self, gateway: Gateway) -> None:
        gateway.write(LIMIT.format("b") + '[log]\nlevel = "debug"\n', 'workers = 2\nmax_packet = "2MiB"\n')
        report = await gateway.reload()
        assert report.problems == []
        assert report.notes == [
            f"{gateway.file}:4: gateway.workers: takes effect at the next start; restart the gateway for it",
            f"{gateway.file}:5: gateway.max_packet: takes effect at the next start; restart the gateway for it",
            f"{gateway.file}:11: log.level: takes effect at the next start; restart the gateway for it",
        ]
        assert gateway.log.of("warning") == [(note, {}) for note in report.notes]
        assert gateway.limits == ["b"]

    async def test_what_is_removed_takes_a_restart_as_well(self, tmp_path: Path) -> None:
        gateway = Gateway(tmp_path, text='max_packet = "2MiB"\n')
        gateway.write("")
        (note,) = (await gateway.reload()).notes
        assert note.startswith(f"{gateway.file}: gateway.max_packet: takes effect at the next start")
        gateway.close()

    async def test_what_the_command_line_has_set_is_no_change_of_the_file(self, gateway: Gateway) -> None:
        settings = gateway.settings.with_log_format("json")
        gateway.reloader = Reloader(settings, gateway.file, gateway.host, gateway.log)
        assert (await gateway.reload()).notes == []
        gateway.write('[log]\nformat = "json"\n')
        (note,) = (await gateway.reload()).notes
        assert note.startswith(f"{gateway.file}:5: log.format: takes effect at the next start")

    async def test_doubts_are_noted(self, gateway: Gateway) -> None:
        gateway.write('[class.guest]\nclient_id = "guest-*"\nexempt = true\n')
        (note,) = (await gateway.reload()).notes
        assert note.startswith(f"{gateway.file}:4: [class.guest]: exempt, though any client can claim")

    async def test_a_gateway_without_a_configuration_says_so(self, tmp_path: Path) -> None:
        gateway = Gateway(tmp_path, configured=False)
        assert gateway.report.config is None
        report = await gateway.reload()
        assert report.problems == ["tidegate: this gateway was started without a configuration; start it with -c FILE"]
        gateway.close()

    async def test_a_state_directory_that_is_full_does_not_keep_it_from_reloading(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(report: Report, state_dir: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Report, "write", fail)
        gateway.write(LIMIT.format("b"))
        await gateway.reload()
        assert gateway.limits == ["b"]
        assert gateway.log.has("error", "state directory cannot be written")


OWNER = """
import signal, sys, time
from pathlib import Path
from tidegate.app.reload import Report
from tidegate.gateway.state import StateDir
state_dir, config, answers = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "answers"
import os
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
StateDir(state_dir).lock("127.0.0.1:9883")
Report(os.getpid(), config or None, 0, 1, 1, [], []).write(state_dir)
print("serving", flush=True)
signal.sigwait({signal.SIGHUP})
if answers:
    Report(os.getpid(), config, 1, 2, 5, [], ["note"], time.monotonic()).write(state_dir)
sys.stdin.read()
"""


class Owner:
    """A process that has the state directory, as a gateway does."""

    def __init__(self, state_dir: Path, config: Path | None, *, answers: bool = True) -> None:
        state_dir.mkdir(exist_ok=True)
        words = [str(state_dir), "" if config is None else str(config), "answers" if answers else "is silent"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"serving\n"

    def __enter__(self) -> "Owner":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=GUARD)


class TestRequest:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "t.toml"
        file.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\n')
        return file

    @pytest.fixture
    def settings(self, file: Path) -> Settings:
        return load(file)

    @staticmethod
    def refusal(settings: Settings, config: Path) -> str:
        with pytest.raises(NotReloaded) as caught:
            request(settings, config)
        return str(caught.value)

    def test_the_gateway_answers(self, settings: Settings, file: Path) -> None:
        with Owner(settings.gateway.state_dir, file) as owner:
            assert request(settings, file) == Report(owner.process.pid, str(file), 1, 2, 5, [], ["note"])

    @pytest.mark.parametrize("other", ["x/../t.toml", "link.toml"])
    def test_one_file_may_have_several_names(self, settings: Settings, file: Path, other: str) -> None:
        (file.parent / "x").mkdir()
        (file.parent / "link.toml").symlink_to(file)
        with Owner(settings.gateway.state_dir, file):
            assert request(settings, file.parent / other).attempts == 1

    def test_no_gateway_has_ever_run(self, settings: Settings, file: Path) -> None:
        told = self.refusal(settings, file)
        assert told.startswith(f"no gateway runs with gateway.state_dir = '{file.parent}/state'; start it with ")
        assert f"tidegate serve -c {file}" in told

    def test_no_gateway_runs_any_more(self, settings: Settings, file: Path) -> None:
        with Owner(settings.gateway.state_dir, file) as owner:
            owner.process.kill()
        assert Report.read(settings.gateway.state_dir) is not None
        assert self.refusal(settings, file).startswith("no gateway runs with")

    def test_one_that_is_just_starting(self, settings: Settings, file: Path) -> None:
        state = StateDir(settings.gateway.state_dir)
        state.lock("127.0.0.1:9883")
        told = f"the gateway (pid {os.getpid()}) is still starting; try again when it serves"
        assert self.refusal(settings, file) == told
        A_REPORT.write(state.path)  # of the one before
        assert self.refusal(settings, file) == told
        state.unlock()

    def test_one_with_another_configuration_names_it(self, settings: Settings, file: Path) -> None:
        other = file.with_name("other.toml")
        for exists in (False, True):
            with Owner(settings.gateway.state_dir, other) as owner:
                assert self.refusal(settings, file) == (
                    f"the gateway was started with {other}, which is what it reads; tidegate reload -c {other}"
                )
                owner.process.send_signal(signal.SIGKILL)
            if not exists:
                other.write_text("")

    def test_one_without_a_configuration(self, settings: Settings, file: Path) -> None:
        with Owner(settings.gateway.state_dir, None) as owner:
            told = self.refusal(settings, file)
            owner.process.kill()
        assert told == "the gateway was started with no configuration, which is what it reads; start it with -c FILE"

    def test_one_that_ends_at_this_moment(
        self, settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def kill(pid: int, number: int) -> None:
            raise ProcessLookupError(3, "No such process")

        with Owner(settings.gateway.state_dir, file) as owner:
            monkeypatch.setattr(os, "kill", kill)
            told = self.refusal(settings, file)
            monkeypatch.undo()
            owner.process.kill()
        assert told == f"the gateway (pid {owner.process.pid}) has just ended; start it with tidegate serve"

    def test_one_of_another_user(self, settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def kill(pid: int, number: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        with Owner(settings.gateway.state_dir, file) as owner:
            monkeypatch.setattr(os, "kill", kill)
            told = self.refusal(settings, file)
            monkeypatch.undo()
            owner.process.kill()
        pid = owner.process.pid
        assert told == f"pid {pid} cannot be told: Operation not permitted; run this as the gateway's user"

    def test_a_state_directory_that_this_user_may_not_enter(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        file = tmp_path / "t.toml"
        file.write_text(f'[gateway]\nstate_dir = "{tmp_path}/file/state"\n')
        told = self.refusal(load(file), file)
        assert told.startswith(f"gateway.state_dir = '{tmp_path}/file/state' cannot be used: ")
        assert told.endswith("; run this as the gateway's user")

    def test_one_that_does_not_answer(self, settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reload, "PATIENCE", 0.0)
        with Owner(settings.gateway.state_dir, file, answers=False) as owner:
            told = self.refusal(settings, file)
        assert told == f"pid {owner.process.pid} does not answer within 0 s; look into its log"


def test_the_report_is_json_for_others_too(tmp_path: Path) -> None:
    A_REPORT.write(tmp_path)
    assert set(json.loads((tmp_path / REPORT).read_text())) == {
        "pid", "config", "attempts", "generation", "limits", "problems", "notes", "began",
    }  # fmt: skip
