"""`tidegate serve`: the parts put together, started in order and ended in the reverse one."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import structlog
from rich.console import Console

from .. import __version__
from ..control.admin import create_app
from ..control.metrics import create_registry
from ..control.server import AdminServer
from ..engine.errors import SegmentError
from ..gateway.ban_file import BanFile
from ..gateway.ban_keeper import BanKeeper
from ..gateway.ban_sheet import BanSheet
from ..gateway.listeners import bind, unlink_socket_files
from ..gateway.mosquitto import EmbeddedBroker
from ..gateway.mosquitto_binary import find_mosquitto, mosquitto_version
from ..gateway.policy_host import PolicyHost
from ..gateway.probe import probe
from ..gateway.room import raise_open_files
from ..gateway.start_error import StartError
from ..gateway.state import StateDir
from ..gateway.supervisor import Supervisor, WorkerFailed
from ..gateway.worker import Orders
from ..policy.address import Address
from ..policy.cautions import warnings
from ..policy.compile import TooMuch
from ..policy.counts import BanCounts, DelayCounts, LimitCounts
from ..policy.enforced import unenforced
from ..policy.problems import SettingsError
from ..policy.settings import Settings
from .attribution import tell_transitions
from .bans import Answer
from .logs import configure
from .panel import Started, show
from .reload import Reloader

WORKER = (sys.executable, "-m", "tidegate.app.worker")
"""The command that starts a worker; the control socket's descriptor is its only argument."""
MQTT_PORT = 1883
SCALES_INTERVAL = 1.0
"""Seconds between two writings of the limits' scale factors."""
PROBE_SECONDS = 2.0
"""How long something on port 1883 has to show that it speaks MQTT, and the gateway that it serves."""


class Plan:
    """Where to listen and what to protect, once what is not configured has been decided."""

    def __init__(self, settings: Settings) -> None:
        self.listen: tuple[Address, ...] = settings.gateway.listen
        self.broker: Address | None = settings.gateway.broker
        self.notes: list[str] = []

    async def find_broker(self, settings: Settings) -> None:
        """Where nothing says otherwise and a broker has port 1883 already, protect that one, from 1884."""
        if settings.is_set("gateway.broker") or settings.is_set("gateway.listen"):
            return
        there = Address(kind="tcp", host="127.0.0.1", port=MQTT_PORT)
        if await probe(there, PROBE_SECONDS) is None:
            self.broker = there
            self.listen = (replace(there, port=MQTT_PORT + 1),)
            self.notes.append(f"port {MQTT_PORT} has a broker already: protecting that one, on {MQTT_PORT + 1}")


class Running:
    """What the admin endpoint reads of the gateway."""

    def __init__(
        self,
        supervisor: Supervisor,
        broker: EmbeddedBroker | None,
        host: PolicyHost,
        reloader: Reloader,
        keeper: BanKeeper,
    ) -> None:
        self._supervisor = supervisor
        self._host = host
        self._keeper = keeper
        self._reloader = reloader
        self._broker = broker
        self.words = supervisor.words
        self.workers = supervisor.workers

    @property
    def restarts(self) -> int:
        """Workers that were started again."""
        return self._supervisor.restarts

    @property
    def policy_generation(self) -> int:
        """How many policies have been in force."""
        return self._host.generation

    @property
    def failed_reloads(self) -> int:
        """Reloads that changed nothing."""
        return self._reloader.failures

    @property
    def events_lost(self) -> int:
        """Transitions that nobody was told of."""
        return self._host.events_lost

    def limits(self) -> Iterator[LimitCounts]:
        """What was counted of each limit."""
        return self._host.counts(time.monotonic())

    def delays(self) -> Iterator[DelayCounts]:
        """How long messages were held, by limit and class."""
        return self._host.delays(self.words)

    def bans(self) -> Iterator[BanCounts]:
        """How many are banned, by limit."""
        return self._keeper.counts()

    @property
    def bans_dropped(self) -> int:
        """Bans that there was no room for."""
        return self._keeper.dropped

    def processes(self) -> Mapping[str, int]:
        """The pids of all processes that live now."""
        processes = {"supervisor": os.getpid(), **self._supervisor.processes()}
        if self._broker is not None and self._broker.pid is not None:
            processes["broker"] = self._broker.pid
        return processes


async def serve(settings: Settings, config: Path | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT, then drain it. SIGHUP reads the policy in `config` again.

    StartError when it cannot start, with the place of the setting that is to blame; SettingsError for limits that
    are not enforced yet: nobody must believe that one holds.
    """
    if found := unenforced(settings.policy, settings.document):
        raise SettingsError(found)
    configure(settings.log.format, settings.log.level, process="supervisor")
    log = structlog.get_logger()
    stop = _signals()
    hangups = _hangups(stop)
    asked = _ban_commands()
    raise_open_files()  # which workers and broker inherit
    async with AsyncExitStack() as stack:
        plan = Plan(settings)
        await plan.find_broker(settings)
        for note in plan.notes:
            log.info(note)
        for warning in warnings(settings.policy, settings.document, settings.gateway.max_packet):
            log.warning(str(warning))
        state = StateDir(settings.gateway.state_dir)
        with _set_by(settings, "gateway.state_dir"):
            state.lock(settings.admin.listen.place)
        stack.callback(state.unlock)

        unbind = stack.enter_context(ExitStack())
        bound = []
        for address in plan.listen:
            with _set_by(settings, "gateway.listen"):
                bound.append(bind(address, settings.gateway.workers))
            unbind.callback(unlink_socket_files, [address])
        listen = tuple(
            _actual(address, sockets[0].getsockname()) for address, sockets in zip(plan.listen, bound, strict=True)
        )
        with _set_by(settings, "admin.listen"):
            (admin_socket,) = bind(settings.admin.listen, 1)
        stack.callback(admin_socket.close)

        embedded = None
        if plan.broker is None:
            embedded = EmbeddedBroker(settings.gateway.state_dir, log)
            stack.push_async_callback(embedded.stop)
            plan.broker = await embedded.start()

        with _set_by(settings, "gateway.buckets"):
            host = _policy_host(settings)
        stack.callback(host.close)
        sheet = BanSheet()
        stack.callback(sheet.close)
        keeper = BanKeeper(BanFile(settings.gateway.state_dir), sheet, settings.policy, log)
        stack.push_async_callback(keeper.close)
        await keeper.start()
        orders = Orders(
            row=0,
            counters_fd=-1,
            segment_fd=host.fd,
            listen_fds=[],
            lock_fd=state.lock_fd,
            listen=[str(address) for address in listen],
            listener_names=[str(address) for address in plan.listen],
            broker=str(plan.broker),
            connect_timeout=settings.gateway.connect_timeout,
            packet_timeout=settings.gateway.packet_timeout,
            max_keepalive=settings.gateway.max_keepalive,
            peer_timeout=settings.gateway.peer_timeout,
            max_packet=settings.gateway.max_packet,
            bans_fd=sheet.fd,
            max_connect=settings.gateway.max_connect,
            wake_fds=[],
            presence_fd=-1,
            post_fd=-1,
            post_fds=[],
            wills_key="",
            hold_messages=settings.gateway.hold_messages,
            waiting_room=settings.gateway.waiting_room,
            hold_bytes=settings.gateway.hold_bytes,
            hold_pool=settings.gateway.hold_pool,
            drain_timeout=settings.gateway.drain_timeout,
            log_format=settings.log.format,
            log_level=settings.log.level,
        )
        supervisor = Supervisor(
            WORKER, orders, list(zip(*bound, strict=True)), log, host.segment.recover, keeper.offend
        )
        keeper.tell = supervisor.tell_bans
        stack.push_async_callback(supervisor.stop)
        unbind.pop_all()  # from here on they are the supervisor's
        try:
            await supervisor.start()
        except WorkerFailed as error:
            raise StartError(str(error), "run `tidegate doctor`") from error

        async def ready() -> str | None:
            return supervisor.trouble() or await probe(_reachable(listen[0]), PROBE_SECONDS)

        reloader = Reloader(settings, config, host, log)
        running = Running(supervisor, embedded, host, reloader, keeper)
        admin = AdminServer(create_app(running, create_registry(running), ready, settings.admin.token), admin_socket)
        await admin.start()
        stack.push_async_callback(admin.stop)
        for task in (
            _reload_on(hangups, reloader, supervisor, host, keeper),
            _reread_bans_on(asked, keeper, supervisor, settings.gateway.state_dir),
            keeper.keep(),
            tell_transitions(host, log),
            _keep_scales(host),
        ):
            stack.push_async_callback(_cancel, asyncio.create_task(task))

        log.info("serving", listen=[str(address) for address in listen], broker=str(plan.broker), admin=admin.url)
        show(
            Started(
                version=__version__,
                listeners=tuple(Path(a.path) if a.kind == "unix" else (a.host, a.port) for a in listen),
                broker=str(plan.broker)
                if embedded is None
                else f"Mosquitto {mosquitto_version(find_mosquitto()) or 'of unknown version'}, embedded",
                admin=admin.url,
                command=own_command(),
                notes=tuple(plan.notes),
            ),
            Console(stderr=True),
        )
        reason = await stop
        log.info("stopping", reason=reason)
    log.info("stopped")


def _policy_host(settings: Settings) -> PolicyHost:
    try:
        return PolicyHost(
            settings.policy,
            workers=settings.gateway.workers,
            buckets=settings.gateway.buckets,
            largest_packet=settings.gateway.max_packet,
            path=settings.gateway.segment,
        )
    except SegmentError as error:
        raise StartError(error.text, error.fix) from error
    except TooMuch as error:
        raise StartError(str(error), "make the policy smaller") from error


async def _reload_on(
    hangups: asyncio.Queue[None], reloader: Reloader, supervisor: Supervisor, host: PolicyHost, keeper: BanKeeper
) -> None:
    while True:
        await hangups.get()
        try:
            await reloader.reload(supervisor)
            keeper.reload(host.policy)
        except Exception:  # a fault of ours must not end reloading for ever, nor be silent
            structlog.get_logger().exception("reload failed")


async def _reread_bans_on(asked: asyncio.Event, keeper: BanKeeper, supervisor: Supervisor, state_dir: Path) -> None:
    log = structlog.get_logger()
    while True:
        await asked.wait()
        asked.clear()
        began = time.monotonic()
        try:
            known = await supervisor.bans_known(await keeper.reread())
            problem = keeper.trouble or ("" if known else "a worker does not take them over; look into the log")
            Answer(os.getpid(), began, problem).write(state_dir)
        except OSError as error:
            log.error("state directory cannot be written", reason=str(error))
        except Exception:  # a fault of ours must not keep commands from the gateway for ever, nor be silent
            log.exception("bans were not read again")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@contextmanager
def _set_by(settings: Settings, key: str) -> Iterator[None]:
    """Tell of an error within where the configuration sets `key`."""
    try:
        yield
    except StartError as error:
        error.place = settings.place(key)
        raise


def _signals() -> asyncio.Future[str]:
    """The first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def handle(name: str) -> None:
        if stop.done():
            os._exit(1)
        stop.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number.name)
    return stop


def _hangups(stop: asyncio.Future[str]) -> asyncio.Queue[None]:
    """An element for each SIGHUP that asks for a reload; one that says that the terminal is gone stops the gateway."""
    hangups: asyncio.Queue[None] = asyncio.Queue()
    on_terminal = os.isatty(0)

    def handle() -> None:
        if on_terminal and not os.isatty(0):
            if not stop.done():
                stop.set_result("the terminal was closed")
        else:
            hangups.put_nowait(None)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handle)
    return hangups


def _ban_commands() -> asyncio.Event:
    """Set by SIGUSR1: a command has changed the bans. Made before any finds us: who does not heed it is ended."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    return asked


async def _keep_scales(host: PolicyHost) -> None:
    """Write for ever what nothing else may change: damage to shared memory must not last."""
    while True:
        host.restore_scales()
        host.recover_guests()
        await asyncio.sleep(SCALES_INTERVAL)


def own_command() -> str:
    """What this shell must be told to run `tidegate`, whose folder may not be on its PATH."""
    return "tidegate" if shutil.which("tidegate") else os.path.relpath(sys.argv[0])


def _actual(address: Address, name: object) -> Address:
    """The address as it was bound: with the port that the kernel chose where 0 was asked for."""
    if address.kind == "unix" or not isinstance(name, tuple):
        return address
    return replace(address, port=name[1])


def _reachable(address: Address) -> Address:
    """Where this machine reaches a listener that may listen on every address."""
    if address.kind == "unix":
        return address
    return replace(address, host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host))
