"""The C engine for Python: `Segment` is the shared memory, `Engine` decides, `Subject` is a client it knows, `Meter` is one
budget per key without any policy. Messages go through `Engine.decide`, which compiled code calls without touching Python.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy, memset

from typing import NamedTuple

from tidegate.engine.errors import PolicyError, SegmentError, StaleSegment

RECORD_SIZES = {
    "head": sizeof(tg_head), "limit": sizeof(tg_limit), "class": sizeof(tg_class), "group": sizeof(tg_range),
    "condition": sizeof(tg_condition), "value": sizeof(tg_value), "component": sizeof(tg_component),
    "choice": sizeof(tg_choice), "budget": sizeof(tg_budget), "node": sizeof(tg_node), "edge": sizeof(tg_edge),
    "ban": sizeof(tg_ban),
}
"""Bytes of each record as the C compiler lays it out."""

MOST_PROFILE_BYTES = 1 << 24
"""Bytes of profiles kept for connections to come; those in use live as long as their connections."""
TALLIES = ("passed", "observe", "delay", "drop", "reject", "disconnect", "ban", "crowded")
"""What is counted of each limit, in the order of the words."""
KINDS = {1: "began", 2: "still", 3: "ended"}
ITSELF = 1
"""The `queue` of a message that waits for what its sender has yet to do."""
ACTIONS = ("pass", "observe", "delay", "drop", "reject", "disconnect", "ban")


class Verdict(NamedTuple):
    """What became of a message. `wait` is in seconds, `limit` the name of the one that decided, "" when it passed."""

    action: str
    limit: str
    wait: float
    matched: int
    crowd: bool
    by_size: bool


class Transition(NamedTuple):
    """A key came under a limit, still is, or no longer is; `count` messages were over it since the last time it was told."""

    kind: str
    action: str
    slot: int
    count: int
    crowd: bool
    now: float
    """Seconds of the monotonic clock."""
    key: int
    family: int
    address: bytes
    client_id: str
    username: str
    topic: str


cdef class Segment:
    """Shared memory with its parts found; see native/segment.c. SegmentError when it is none of ours."""

    def __init__(self, memory, unsigned int boot) -> None:
        cdef char error[TG_ERROR]
        cdef uint32_t written
        self.view = memory
        cdef size_t size = <size_t>self.view.shape[0]
        if size < sizeof(tg_segment_head):
            raise SegmentError("truncated: it has not even a head", "remove the file, so that it is made anew")
        if not tg_segment_attach(&self.c, &self.view[0], size, boot, error):
            text = error.decode()
            written = (<tg_segment_head *>&self.view[0]).boot
            stale = written != boot and tg_segment_attach(&self.c, &self.view[0], size, written, error)
            raise (StaleSegment if stale else SegmentError)(text, "remove the file, so that it is made anew")

    @staticmethod
    def size(rows: int, slots: int, records: int, words: int, policy_room: int) -> int:
        """Bytes of a segment with so many rows, limits, events a row, buckets, and bytes for a policy."""
        return tg_segment_bytes(rows, slots, records, words, policy_room)

    @staticmethod
    def create(memory, rows: int, slots: int, records: int, words: int, policy_room: int, boot: int, secret) -> None:
        """Write the head of a segment into zeroed memory of `size` bytes; `records` and `words` are powers of two."""
        cdef uint8_t[::1] view = memory
        cdef uint64_t key[2]
        if <size_t>view.shape[0] < tg_segment_bytes(rows, slots, records, words, policy_room):
            raise ValueError("the memory is smaller than the segment")
        key[0], key[1] = secret
        tg_segment_create(&view[0], rows, slots, records, words, policy_room, boot, key)

    @property
    def rows(self) -> int:
        """Processes that may count here."""
        return self.c.rows

    @property
    def slots(self) -> int:
        """Limits that have a place here."""
        return self.c.slots

    @property
    def words(self) -> int:
        """Buckets."""
        return self.c.words

    @property
    def policy_room(self) -> int:
        """Bytes of the largest compiled policy that fits."""
        return self.c.policy_room

    @property
    def generation(self) -> int:
        """Counts the policies published; 0 before the first."""
        return tg_segment_generation(&self.c)

    def publish(self, const uint8_t[::1] policy) -> bool:
        """Make this compiled policy the next generation; False when it does not fit."""
        return tg_segment_publish(&self.c, &policy[0], <size_t>policy.shape[0])

    def policy(self) -> bytes:
        """A copy of the present generation; empty when there is none. `Engine.load` finds out whether it is whole."""
        out = bytearray(self.c.policy_room)
        cdef uint8_t[::1] view = out
        if self.c.policy_room == 0:
            return b""
        return bytes(out[: tg_segment_policy(&self.c, &view[0])])

    def set_scale(self, unsigned int slot, unsigned int priority, double factor) -> None:
        """Multiply the rates of a limit, for clients of a priority, by `factor`; 1/256 at least."""
        if slot >= self.c.slots or priority >= 4:
            raise IndexError("no such limit or priority")
        self.c.scales[slot].of[priority] = <uint32_t>min(
            max(factor * TG_UNSCALED, <double>TG_LEAST_SCALE), 4294967295.0
        )
        (<tg_segment_head *>&self.view[0]).scalings += 1

    @property
    def scalings(self) -> int:
        """Counts the changes of scale factors, modulo 2**32."""
        return (<tg_segment_head *>&self.view[0]).scalings

    def reset_scales(self) -> None:
        """Set all scale factors to 1."""
        cdef bint changed = False
        for slot in range(self.c.slots):
            for priority in range(4):
                changed = changed or self.c.scales[slot].of[priority] != TG_UNSCALED
                self.c.scales[slot].of[priority] = TG_UNSCALED
        if changed:
            (<tg_segment_head *>&self.view[0]).scalings += 1

    def tallies(self, unsigned int slot) -> list[int]:
        """The sums over all rows for one limit, in the order of TALLIES."""
        cdef uint32_t row
        cdef size_t at
        cdef int i
        if slot >= self.c.slots:
            raise IndexError("no such limit")
        sums = [0] * TG_TALLIES
        for row in range(self.c.rows):
            at = <size_t>row * TG_TALLIES * self.c.slots + slot
            for i in range(TG_TALLIES):
                sums[i] += self.c.tallies[at + <size_t>i * self.c.slots]
        return sums

    def forget(self, unsigned int slot) -> None:
        """Zero all that a place has kept of a limit, before another one gets it; its scale factors become 1."""
        if slot >= self.c.slots:
            raise IndexError("no such limit")
        tg_segment_forget(&self.c, slot)

    def census(self, double now, bursts) -> list[tuple[int, int]]:
        """For each limit, by slot: buckets in use, and those that would refuse now. `bursts`: ticks of each slot's."""
        cdef uint32_t count = min(len(bursts), self.c.slots)
        cdef uint64_t *room = <uint64_t *>PyMem_Malloc((3 * <size_t>count + 1) * sizeof(uint64_t))
        if room == NULL:
            raise MemoryError
        try:
            memset(room, 0, 3 * <size_t>count * sizeof(uint64_t))
            for i in range(count):
                room[i] = bursts[i]
            tg_census(&self.c, <uint64_t>(now * 1e9), room, count, room + count, room + 2 * count)
            return [(room[count + i], room[2 * count + i]) for i in range(count)]
        finally:
            PyMem_Free(room)

    def recover(self, unsigned int row) -> None:
        """Forget what a process that has died had in flight, and whom it had waiting."""
        tg_segment_recover(&self.c, row)

    def events(self, unsigned int row, uint64_t after) -> tuple[list[Transition], int, int]:
        """Transitions of a row behind sequence number `after`, the number to go on from, and how many were lost."""
        cdef tg_event event
        cdef uint64_t written, sequence
        cdef int found
        if row >= self.c.rows:
            raise IndexError("no such row")
        written = self.c.row_heads[row].written
        lost = 0
        if written - after > self.c.records:  # overwritten, or damage
            lost = min(written - after, 1 << 32) - self.c.records if written > after else 0
            after = max(written, self.c.records) - self.c.records
        told = []
        for sequence in range(after + 1, written + 1):
            found = tg_event_read(&self.c, row, sequence, &event)
            if found > 0:
                told.append(_transition(&event))
            elif found < 0:
                lost += 1
        return told, written, lost

    def events_lost(self, unsigned int row) -> int:
        """Transitions that a row could not tell, as too many were going on at once."""
        if row >= self.c.rows:
            raise IndexError("no such row")
        return self.c.row_heads[row].lost


cdef object _transition(const tg_event *event):
    return Transition(
        KINDS.get(event.kind, "began"),
        ACTIONS[event.action] if event.action < len(ACTIONS) else "pass",
        event.slot,
        event.count,
        event.crowd != 0,
        event.now / 1e9,
        event.key,
        event.family,
        event.address[:16],
        event.client[:event.client_size].decode(errors="replace"),
        event.username[:event.username_size].decode(errors="replace"),
        event.topic[:event.topic_size].decode(errors="replace"),
    )


cdef class Subject:
    """A client. Texts are UTF-8; `address` has 4 or 16 bytes, none for a Unix socket.

    `version` is 3, 4 or 5, or 0 for one that has said nothing yet: it fits only conditions on address and listener.
    `nonce` stands for a client identifier that is empty. `Engine.resolve` gives it its classes and limits.
    """

    def __cinit__(self) -> None:
        self.subject = NULL

    def __init__(
        self, client_id: bytes, username: bytes | None, address: bytes, listener: bytes, int version,
        bint clean_start = True, bint bridge = False, uint64_t nonce = 0,
    ) -> None:
        cdef bytes copied = address
        self.client_id = client_id
        self.username = username
        self.listener = listener
        self.generation = 0
        self.classes = ()
        memset(&self.who, 0, sizeof(tg_who))
        self.who.client = self.client_id
        self.who.client_size = <uint32_t>len(client_id)
        if username is not None:
            self.who.has_username = True
            self.who.username = self.username
            self.who.username_size = <uint32_t>len(username)
        self.who.listener = self.listener
        self.who.listener_size = <uint32_t>len(listener)
        if len(copied) not in (0, 4, 16):
            raise ValueError("an address has 4 or 16 bytes")
        memcpy(self.who.address, <const char *>copied, <size_t>len(copied))
        self.who.family = {0: 0, 4: 4, 16: 6}[len(copied)]
        self.who.version = version
        self.who.clean_start = clean_start
        self.who.bridge = bridge
        self.who.nonce = nonce

    def __dealloc__(self) -> None:
        PyMem_Free(self.subject)

    @property
    def exempt(self) -> bool:
        """Whether one of its classes is."""
        return self.subject != NULL and self.subject.exempt != 0

    @property
    def priority(self) -> int:
        """Of its first class; policy.model.Priority."""
        return 2 if self.subject == NULL else self.subject.priority

    @property
    def first_class(self) -> int:
        """The identity of that class (engine.format); 0 when it is in none."""
        return 0 if self.subject == NULL else self.subject.first_class


cdef void _write_message(tg_message *message, int event, bytes topic, int qos, bint retain) noexcept:
    """One of which only is asked what limits it meets."""
    memset(message, 0, sizeof(tg_message))
    message.topic = topic
    message.topic_size = <size_t>len(topic)
    message.qos = qos
    message.retain = retain
    message.event = event
    if event == 2:
        tg_read_filter(message)


cdef int _loads = 0  # by all engines, so that no client takes what another engine has resolved for its own


cdef class Engine:
    """Decides by one generation of a policy, for one process. `row` may be -1: then nothing is counted and told.

    `nonce` tells processes of one segment apart: the row, or the process id.
    """

    def __init__(self, Segment segment not None, int row, unsigned int nonce = 0) -> None:
        self.segment = segment
        self.profiles = {}
        self.names = []
        if row >= <int>segment.c.rows:
            raise IndexError("no such row")
        if not tg_engine_init(&self.c, &segment.c, TG_NONE if row < 0 else row, nonce):
            raise MemoryError

    def __dealloc__(self) -> None:
        tg_engine_free(&self.c)

    def load(self, policy: bytes) -> None:
        """Decide by this compiled policy from now on; PolicyError, and the former one stays, when it is none."""
        cdef char error[TG_ERROR]
        cdef const tg_limit *limit
        cdef bytes blob = policy
        if not tg_engine_load(&self.c, <const char *>blob, <size_t>len(blob), error):
            raise PolicyError(error.decode())
        global _loads
        _loads += 1
        self.generation = _loads
        self.count = self.c.policy.head.limits
        self._forget()  # its limit was one of the former policy
        self.profiles = {}
        self.profile_bytes = 0
        self.names = []
        for i in range(self.c.policy.head.limits):
            limit = &self.c.policy.limits[i]
            self.names.append((self.c.policy.text + limit.name.first)[: limit.name.count].decode(errors="replace"))

    cdef void _forget(self) noexcept:
        """As if the last verdict had been that no limit is met."""
        memset(&self.verdict, 0, sizeof(tg_verdict))
        self.verdict.limit = self.verdict.slot = TG_NONE
        self.verdict.extra = TG_NONE
        self.c.taken_count = 0

    @property
    def limits(self) -> int:
        """How many limits the policy has."""
        return len(self.names)

    def bursts(self) -> list[int]:
        """By limit, in the policy's order: ticks ahead of now beyond which its largest budget refuses."""
        cdef const tg_limit *limit
        cdef const tg_budget *budget
        cdef tg_range choices, budgets
        cdef uint64_t most, one
        cdef uint32_t number, i, b
        found = []
        for number in range(self.count):
            limit = &self.c.policy.limits[number]
            most = 0
            for kind in range(2):
                choices = limit.rate if kind == 0 else limit.bandwidth
                for i in range(choices.first, choices.first + choices.count):
                    budgets = self.c.policy.choices[i].budgets
                    for b in range(budgets.first, budgets.first + budgets.count):
                        budget = &self.c.policy.budgets[b]
                        one = 0 if budget.of_bytes else tg_cost_of(budget, 1, TG_UNSCALED).ticks
                        most = max(most, budget.burst - one)
            found.append(most)
        return found

    # The last verdict, for the one who has to answer for it.

    @property
    def refused_by(self) -> str:
        """The name of the limit that decided; "" when nothing was over a limit."""
        return "" if self.verdict.limit == TG_NONE else self.names[self.verdict.limit]

    @property
    def wait(self) -> float:
        """Seconds until the message would pass."""
        return self.verdict.wait / 1e9

    @property
    def by_size(self) -> bool:
        """Whether it is too large, so that no wait will help."""
        return self.verdict.by_size

    @property
    def by_window(self) -> bool:
        """Whether it waits for acknowledgements, so that nobody knows how long."""
        return self.verdict.by_window

    # Of a verdict that delays

    @property
    def queue(self) -> int:
        """What the message waits for: a budget or a window; ITSELF: PUBRELs of its sender."""
        return self.verdict.queue

    @property
    def max_delay(self) -> float:
        """Seconds that it may wait."""
        return self.verdict.max_delay / 1e9

    @property
    def then(self) -> int:
        """The action (policy.model.Action) when it has waited so long."""
        return self.verdict.then

    @property
    def slot(self) -> int:
        """The place of the limit that decided in the segment, or of that which `conflates`; -1 for none."""
        return -1 if self.verdict.slot == TG_NONE else self.verdict.slot

    cpdef int tally(self, unsigned int slot, unsigned int action) except -1:
        """Count `action` for a message that was delayed by the limit at `slot`: it is not any longer."""
        tg_count(&self.c, slot, action)
        return 0

    def late(self, Subject subject, unsigned int action, double now) -> None:
        """Count and tell `action` for the message just decided, if that was delayed: it is not any longer."""
        if self.verdict.action == 2 and self.delayed is not None:
            tg_late(
                &self.c, subject.subject, &subject.who, &self.message, &self.verdict, action, <uint64_t>(now * 1e9)
            )

    @property
    def conflates(self) -> bool:
        """Of a delay, or of a message that was only asked about: whether the newest of its topic is enough."""
        return self.verdict.conflates

    @property
    def max_qos(self) -> int:
        """The largest QoS that the subscription just decided may have."""
        return min(self.verdict.extra, 2)

    # What limits know of a client, before anything is decided

    cpdef bint meets(self, Subject subject, int event) except -1:
        """Whether a limit on `event` (policy.model.Event) can meet this client, if only to observe it."""
        cdef const tg_profile *profile = self._profile(subject, event)
        return profile != NULL and profile.of[event] != profile.of[event + 1]

    cpdef bint delays(self, Subject subject, int event = 0) except -1:
        """Whether a limit on `event` may delay what concerns this client."""
        cdef const tg_profile *profile = self._profile(subject, event)
        return profile != NULL and tg_delays(&self.c.policy, subject.subject, profile, event)

    cpdef uint64_t window(self, Subject subject, int event) except? 0:
        """The smallest `concurrent` that holds for all messages of QoS 1 and 2 of this client together: 0 for none.

        As it is written, or more where a scale factor above 1 says so: what one below takes away comes back.
        """
        cdef const tg_profile *profile = self._profile(subject, event)
        return 0 if profile == NULL else tg_least_window(&self.c, subject.subject, profile, event)

    cdef const tg_profile *_profile(self, Subject subject, int event) except? NULL:
        """Which limits can meet a client; NULL when there are none at all."""
        if not 0 <= event < 7:
            raise IndexError("no such event")
        if not self.count:
            return NULL
        if subject.generation != self.generation:
            self.resolve(subject)
        return <const tg_profile *><const char *>subject.profile

    # Messages in flight, and turns

    cpdef object taken(self):
        """The places in windows that the message just decided has taken: None, a number, or a tuple of them."""
        if not self.c.taken_count:
            return None
        if self.c.taken_count == 1:
            return self.c.taken[0].place
        return tuple([self.c.taken[i].place for i in range(self.c.taken_count)])

    @property
    def shares(self) -> bool:
        """Whether other clients may share a window of which the message just decided has taken a place."""
        return self.c.taken_shared

    cpdef uint64_t free(self, uint32_t place) except? 0:
        """Give a place back; the window's key, as `queue` names it."""
        return tg_window_free(&self.c, place)

    cpdef uint64_t rows_to_wake(self) except? 0:
        """A bit for each row, modulo 64, whose clients wait for what has been given back since the last call."""
        cdef uint64_t rows = self.c.to_wake
        self.c.to_wake = 0
        return rows

    cpdef bint wait_for(self, uint64_t key, uint32_t addresses) except -1:
        """Say that clients of so many addresses wait here for `key`: False when there is no place to say it."""
        return tg_turn_wait(&self.c, key, addresses)

    cpdef double lead(self, uint64_t key) except? -1:
        """Rounds by which this process is ahead of those that wait for `key` too; 0 when none does."""
        return tg_turn_lead(&self.c, key) / 65536.0

    cpdef void served(self, uint64_t key) except *:
        """Note that one message of those waiting for `key` has passed."""
        tg_turn_served(&self.c, key)

    cpdef void level(self, uint64_t key) except *:
        """Be ahead of nobody: those who wait for `key` elsewhere were let to catch up, and have not."""
        tg_turn_level(&self.c, key)

    def subject(
        self, client_id: bytes, username: bytes | None, address: bytes, listener: bytes, int version,
        bint clean_start = True, bint bridge = False, uint64_t nonce = 0,
    ) -> Subject:
        """A client; see Subject."""
        return Subject(client_id, username, address, listener, version, clean_start, bridge, nonce)

    cpdef int resolve(self, Subject subject) except -1:
        """Give a client its classes and limits by the present generation."""
        cdef uint32_t classes[TG_MAX_CLASSES]
        cdef uint32_t count = 0
        cdef size_t used
        cdef bytes profile
        if self.generation == 0:
            raise PolicyError("no policy is loaded")
        PyMem_Free(subject.subject)
        subject.subject = <tg_subject *>PyMem_Malloc(tg_subject_bytes(&self.c.policy))
        cdef uint8_t *room = <uint8_t *>PyMem_Malloc(tg_profile_room(&self.c.policy))
        if subject.subject == NULL or room == NULL:
            PyMem_Free(room)
            raise MemoryError
        used = tg_resolve(
            &self.c.policy, self.c.segment.secret, &subject.who, subject.subject, <tg_profile *>room, classes, &count
        )
        profile = room[:used]
        PyMem_Free(room)
        # Clients of the same classes share one profile.
        shared = self.profiles.get(profile)
        if shared is None:
            if self.profile_bytes + used > MOST_PROFILE_BYTES:
                self.profiles = {}
                self.profile_bytes = 0
            self.profile_bytes += used
            self.profiles[profile] = shared = profile
        subject.profile = shared
        subject.classes = tuple([classes[i] for i in range(count)])
        subject.generation = self.generation
        return 0

    cpdef bint is_exempt(self, Subject subject, bint proven) except -1:
        """Whether one of a client's classes is exempt. Not `proven`: whatever it calls itself, by its address and listener.
        """
        if not self.generation:  # no policy is loaded yet
            return False
        if subject.generation != self.generation:
            self.resolve(subject)
        return (subject.subject.exempt if proven else subject.subject.exempt_there) != 0

    cpdef int decide(
        self, Subject subject, bytes data, Py_ssize_t at, Py_ssize_t end, int qos, bint retain, uint64_t packet,
        uint64_t payload, bint again, double now, uint64_t turn = 0, bint held = False, uint32_t owed = 0,
        bint ask = False
    ) except -1:
        """The action (policy.model.Action) for a PUBLISH whose topic is `data[at:end]`; `now` in seconds.

        `again`: the broker may hold it already, so it is never dropped or rejected, but delayed. `turn`: the `queue`
        that it has waited in, 0 when it has just arrived; `held`: it is counted as delayed. `owed`: QoS 2 exchanges
        in windows that others share for which the client has yet to send PUBREL; `ask`: charge nothing. What it takes of windows is `taken`.
        """
        return self._decide(
            subject, 0, data, at, end, qos, retain, packet, payload, again, <uint64_t>(now * 1e9), turn, held, owed,
            ask, held
        )

    cpdef int decide_connect(
        self, Subject subject, bint late, uint64_t packet, double now, uint64_t turn = 0, bint held = False,
        bint ask = False, bint quiet = False
    ) except -1:
        """The action for a connection, of the limits that are decided at accept, or `late`: when CONNECT has been read.

        At accept `subject` has the version 0 and `packet` is 0; then it is the size of CONNECT in bytes. The rest is
        as for `decide`; `quiet`: what limits that observe say is not counted. A place that it takes of a window it
        keeps until it ends.
        """
        return self._decide(
            subject, 1, b"", 0, 0, late, False, packet, packet, False, <uint64_t>(now * 1e9), turn, held, 0, ask,
            quiet
        )

    cpdef int decide_failure(self, Subject subject, double now) except -1:
        """The action for a client that the broker has refused: `subject` is who it said that it was."""
        return self._decide(
            subject, 6, b"", 0, 0, 0, False, 0, 0, False, <uint64_t>(now * 1e9), 0, False, 0, False,
            False
        )

    cpdef int decide_subscribe(
        self, Subject subject, bytes topic_filter, double now, uint64_t turn = 0, bint held = False, bint ask = False,
        bint has = False
    ) except -1:
        """The action for one filter of a SUBSCRIBE, `$share/NAME/` included. `max_qos` is what it may have, whatever the
        action.

        `has`: the client has this very subscription already, so it takes no place in windows. Else the place is kept
        until the subscription ends. The rest is as for `decide`.
        """
        return self._decide(
            subject, 2, topic_filter, 0, len(topic_filter), 0, False, 0, 0, has, <uint64_t>(now * 1e9), turn, held, 0,
            ask, held
        )

    cpdef int decide_deliver(
        self, Subject subject, bytes data, Py_ssize_t at, Py_ssize_t end, int qos, bint retain, uint64_t packet,
        uint64_t payload, double now, uint64_t turn = 0, bint held = False, uint32_t owed = 0, bint ask = False,
        bint kept = False
    ) except -1:
        """The action for a PUBLISH on its way to the client `subject`; PASS, DELAY or DROP.

        `kept`: it must not be dropped, as others would not get it instead (a shared subscription): it is delayed, and
        no `size` concerns it. `owed`: messages that the client has yet to acknowledge in windows that others share. The
        rest is as for `decide`.
        """
        return self._decide(
            subject, 3, data, at, end, qos, retain, packet, payload, kept, <uint64_t>(now * 1e9), turn, held, owed,
            ask, held
        )

    cpdef int decide_will(
        self, Subject subject, bytes topic, int qos, bint retain, uint64_t packet, uint64_t payload, double now,
        uint64_t turn = 0, bint held = False, bint ask = False
    ) except -1:
        """The action for the will of a client that has gone; PASS, DELAY or DROP. `packet`: bytes of it as a PUBLISH."""
        return self._decide(
            subject, 4, topic, 0, len(topic), qos, retain, packet, payload, False, <uint64_t>(now * 1e9), turn, held,
            0, ask, held
        )

    cpdef double will_delay(self, Subject subject, bytes topic, int qos, bint retain) except? -1:
        """Seconds that this will is to be held back before it is decided: the most that a limit says, 0 when none does."""
        cdef tg_message message
        cdef const tg_profile *profile = self._profile(subject, 4)
        if not 0 <= qos <= 2:
            raise IndexError("no such QoS")
        if profile == NULL:
            return 0.0
        _write_message(&message, 4, topic, qos, retain)
        return tg_will_delay(&self.c, subject.subject, profile, &message) / 1e3

    cpdef int decide_packet(
        self, Subject subject, uint64_t packet, double now, uint64_t turn = 0, bint held = False, bint ask = False
    ) except -1:
        """The action for any packet of `packet` bytes behind CONNECT; PASS, DELAY, DISCONNECT or BAN."""
        return self._decide(
            subject, 5, b"", 0, 0, 0, False, packet, packet, False, <uint64_t>(now * 1e9), turn, held, 0, ask, held
        )

    cdef int _decide(
        self, Subject subject, int event, bytes data, Py_ssize_t at, Py_ssize_t end, int qos, bint retain,
        uint64_t packet, uint64_t payload, bint again, uint64_t now_ns, uint64_t turn, bint held, uint32_t owed, bint ask,
        bint quiet
    ) except -1:
        cdef tg_message *message = &self.message
        if not 0 <= at <= end <= len(data) or not 0 <= qos <= 2 or not 0 <= event < 7:
            raise IndexError("no such topic, QoS or event")
        if not self.count:
            self._forget()
            return 0
        if subject.generation != self.generation:
            self.resolve(subject)
        message.topic = <const char *>data + at
        message.topic_size = <size_t>(end - at)
        message.packet = packet
        message.payload = payload
        message.event = event
        message.behind = 0
        message.qos = qos
        message.retain = retain
        message.wild = False
        message.again = again
        message.turn = turn
        message.held = held
        message.quiet = quiet
        message.owed = owed
        message.ask = ask
        if event == 2:
            tg_read_filter(message)
        tg_decide(
            &self.c, subject.subject, <const tg_profile *><const char *>subject.profile, &subject.who, message, now_ns,
            &self.verdict,
        )
        if self.verdict.action == 2:
            self.delayed = data  # for `late`, to which the message's topic still points
        return self.verdict.action

    def judge(
        self, Subject subject, topic: bytes, int qos = 0, bint retain = False, uint64_t packet = 0,
        uint64_t payload = 0, bint again = False, int event = 0, *, uint64_t now_ns, uint64_t turn = 0,
        bint held = False, uint32_t owed = 0, bint ask = False,
    ) -> Verdict:
        """The same, told in full, for any event (policy.model.Event); `now_ns` in nanoseconds.

        `again`: `kept` of a message on its way to a client, `has` of a subscription, whose filter is `topic`.
        """
        self._decide(
            subject, event, topic, 0, len(topic), qos, retain, packet, payload, again, now_ns, turn, held, owed, ask,
            held
        )
        return self.last()

    def last(self) -> Verdict:
        """The last verdict."""
        return Verdict(
            ACTIONS[self.verdict.action],
            "" if self.verdict.limit == TG_NONE else self.names[self.verdict.limit],
            self.verdict.wait / 1e9,
            self.verdict.matched,
            self.verdict.crowd,
            self.verdict.by_size,
        )

    def matching(
        self, Subject subject, topic: bytes, int qos = 0, bint retain = False, int event = 0
    ) -> list[int]:
        """The numbers, in the policy's order of limits, of those that match; nothing is charged."""
        cdef tg_message message
        cdef bytes text = topic
        cdef const tg_profile *profile = self._profile(subject, event)
        if not 0 <= qos <= 2:
            raise IndexError("no such QoS")
        if profile == NULL:
            return []
        _write_message(&message, event, text, qos, retain)
        cdef uint32_t *out = <uint32_t *>PyMem_Malloc((len(self.names) + 1) * sizeof(uint32_t))
        if out == NULL:
            raise MemoryError
        try:
            count = tg_matching(&self.c, subject.subject, profile, &message, out)
            return [out[i] for i in range(count)]
        finally:
            PyMem_Free(out)

    def sweep(self, double now) -> None:
        """Tell the end of what has been quiet, and heal windows; to be called some times a second."""
        tg_sweep(&self.c, <uint64_t>(now * 1e9))
        tg_window_sweep(&self.c)


cdef class Meter:
    """One rate, a budget for each key: `identity` tells meters of one segment apart, `price` is that of `format.price`.

    SegmentError when the segment has no place left for another identity.
    """

    def __init__(self, Segment segment not None, uint64_t identity, unsigned int nonce, price) -> None:
        self.segment = segment
        self.slot = tg_segment_claim(&segment.c, identity)
        if self.slot == TG_NONE:
            raise SegmentError(
                f"all {segment.c.slots} places for rates are taken",
                "remove the file, so that it is made anew, and use fewer names and rates in one",
            )
        self.table.words = segment.c.table
        self.table.mask = segment.c.words - 1
        self.table.nonce = nonce
        self.table.horizon = <uint64_t>1 << 61
        self.budget.identity = identity
        self.budget.multiplier = price.multiplier
        self.budget.shift = price.shift
        self.budget.burst = price.burst
        self.budget.largest = price.largest
        self.quota = tg_quota_of(&self.budget, segment.c.words, 0)
        # One address makes all of them: it may have what the limit may.
        self.quota.source = self.quota.limit

    def renew(self, unsigned int nonce) -> None:
        """Take another nonce: every process that makes buckets needs its own."""
        self.table.nonce = nonce

    def hit(self, bytes key not None, uint64_t cost, uint64_t now_ns) -> int:
        """Charge `cost` to the key's budget: 0 when it passes, else the nanoseconds until it would."""
        cdef tg_plan plan
        cdef tg_charge charge
        cdef tg_charge_done done
        cdef c_bool crowd = False
        cdef uint64_t wait = 0
        cdef uint64_t hash = tg_siphash(self.segment.c.secret, <const char *>key, <size_t>len(key))
        charge.table = &self.table
        charge.plan = &plan
        charge.slot = &self.segment.c.slot[self.slot]
        charge.slot_number = self.slot
        plan.index = 0
        plan.identity = self.budget.identity
        charge.secret = self.segment.c.secret[1]
        charge.source = 0
        charge.vicinity = 0
        plan.quota = &self.quota
        plan.key = tg_key_make(self.slot, hash ^ self.budget.identity)
        plan.cost = tg_cost_of(&self.budget, cost, TG_UNSCALED)
        charge.now = tg_ticks(now_ns)
        charge.commit = True
        if tg_charge_budget(&charge, &wait, &done, &crowd):
            return 0
        return wait // 16 + 1
