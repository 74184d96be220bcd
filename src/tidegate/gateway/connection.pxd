cimport cython

from tidegate.engine.binding cimport Engine
from tidegate.engine.counters cimport Counters
from tidegate.gateway.aliases cimport Aliases
from tidegate.gateway.guard cimport Guard
from tidegate.mqtt.ack cimport Ack
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int _GREETING, _ARRIVED, _TURNED_AWAY, _QUEUED, _OPENING, _OPEN, _EMPTYING, _LEAVING, _CLOSED
cdef int _CONNECT, _CONNACK, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP, _SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK
cdef int _PINGREQ, _PINGRESP, _DISCONNECT, _AUTH, _ITSELF, _DELAY, _DROP, _REJECT, _LIMITED, _BAN, _FORWARDED, _KEPT, _PARKED
cdef Py_ssize_t _FROM_CLIENT, _FROM_BROKER, _CLIENT_BYTES, _BROKER_BYTES, _INFLIGHT_UP, _INFLIGHT_DOWN

cdef Frame _frame
cdef Publish _publish
cdef Ack _ack

cdef class Connection:
    cdef readonly Counters counters
    cdef object bounds
    cdef Py_ssize_t max_packet
    cdef double connect_timeout
    cdef double packet_timeout
    cdef readonly int state
    cdef readonly int version
    cdef readonly list to_client
    cdef readonly list to_broker
    cdef public int commands
    cdef readonly double wake_at
    cdef public bint client_excused
    cdef public bint client_unread
    cdef readonly object fault
    cdef readonly object broker_fault
    cdef readonly bint doubt_broker
    cdef public object flusher
    cdef public object has_hung_up
    cdef object _door
    cdef object _admission
    cdef bytes _address
    cdef object _connect
    cdef bytes _connack
    cdef bint _is_admitted
    cdef Guard _guard
    cdef double _now
    cdef double _last_client
    cdef double _last_upstream
    cdef double _keepalive
    cdef bytes _greeting
    cdef bytes _held
    cdef bytearray _client_tail
    cdef Py_ssize_t _client_need
    cdef Py_ssize_t _client_left
    cdef double _packet_by
    cdef Py_ssize_t _packet_bytes
    cdef bint _skipping
    cdef bytes _owed
    cdef list _waiting
    cdef bytearray _broker_tail
    cdef Py_ssize_t _broker_need
    cdef Py_ssize_t _broker_left
    cdef Py_ssize_t _client_packet
    cdef Py_ssize_t _broker_packet
    cdef Py_ssize_t _receive_maximum
    cdef Py_ssize_t _broker_quota
    cdef set _unacknowledged
    cdef object _hold
    cdef bint _is_parked
    cdef bint _will_resume
    cdef bytes _large
    cdef double _stop_until
    cdef Py_ssize_t _overflow_left
    cdef bint _is_unread
    cdef bint _own_may_go
    cdef list _forgotten
    cdef bint _was_counted
    cdef bint _is_upstream_full
    cdef double _unread_since
    cdef double _overflow_until
    cdef int _decided
    cdef bytes _answer
    cdef bytes _farewell
    cdef double _empty_by
    cdef bint _is_client_gone
    cdef readonly str cut_client
    cdef Py_ssize_t _inflight_up
    cdef Py_ssize_t _inflight_down
    cdef Aliases _aliases
    cdef bint _enhanced
    cdef bint _client_turn
    cdef Py_ssize_t _client_pings
    cdef Py_ssize_t _own_pings

    cpdef void enter(self, door, bytes address, bytes listener) except *
    cdef int _admit(self, bint late=*) except -1
    cdef void _await_turn(self) except *
    cdef void _keep_out(self, int action, denial) except *
    cdef void _come_in(self) except *
    cdef void _read_held(self) except *
    cpdef void turn_away(self, double now) except *
    @cython.locals(missing=Py_ssize_t)
    cpdef void client_bytes(self, bytes data, double now) except *
    cpdef void client_read_again(self, double now) except *
    cdef void _begin_packet(self, Py_ssize_t at) except *
    cdef void _expect_more(self) except *
    cdef void _look_after_packet(self) except *
    cpdef void broker_bytes(self, bytes data, double now) except *
    cdef void _go_on(self) except *
    cpdef void tick(self, double now) except *

    @cython.locals(
        size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t, head=bytes, topic=bytes,
        live=cython.bint, kept=cython.int, left=cython.int
    )
    cdef void _client_packets(self, bytes data) except *
    @cython.locals(at=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _client_opening(self, bytes data) except *
    cdef void _greet(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end) except *
    cdef void _check_padding(self) except *
    @cython.locals(
        text=bytes, start=Py_ssize_t, stop=Py_ssize_t, guard=Guard, action=cython.int, again=cython.bint,
        counted=cython.bint, size=Py_ssize_t, payload=Py_ssize_t
    )
    cdef int _keep_back(self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic, bint live) except -1
    @cython.locals(answer=bytes)
    cdef void _refuse_message(self, bytes data, Py_ssize_t end, bytes topic, int action, bint live, bint again) except *
    @cython.locals(guard=Guard, has_reason=cython.bint)
    cdef bytes _refusal(self, bytes topic, int action, bint again)
    @cython.locals(guard=Guard)
    cdef void _leave_out(self, bytes data, Py_ssize_t end, bytes answer) except *
    @cython.locals(guard=Guard, engine=Engine, packet=bytes, longest=double)
    cdef int _hold_back(
        self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic, bytes name, bint live, bint decided
    ) except -1
    @cython.locals(guard=Guard, action=cython.int)
    cdef int _no_room(self, bytes topic, Py_ssize_t size, Py_ssize_t payload, bint decided) except -1
    cdef void _wait_for_limit(self, bytes topic, held) except *
    cdef void _park(self, bytes data, Py_ssize_t at, bint live, double longest) except *
    cdef void _yield_turn(self, bytes data, Py_ssize_t at) except *
    cdef void _ask_to_resume(self) except *
    cpdef void resume(self, double now) except *
    cdef void _resume(self) except *
    cdef void _release_windows(self) except *
    @cython.locals(action=cython.int)
    cdef void _stop_no_longer(self) except *
    cdef void _decide_large(self, bytes topic, int action) except *
    @cython.locals(guard=Guard, count=Py_ssize_t, here=Py_ssize_t)
    cdef bint _is_quota_used(self, int own) except -1
    cpdef int serve(self, lane, double now) except -1
    @cython.locals(guard=Guard, engine=Engine, data=bytes, end=Py_ssize_t, payload=Py_ssize_t, action=cython.int, is_stuck=cython.bint)
    cdef int _try(self, bytes topic, unsigned long long turn, bint late=*) except -1
    cdef void _read_again(self, bytes data) except *
    cdef void _count_sent(self) except *
    cdef void _follow(self, bytes topic) except *
    cdef void _expire(self) except *
    cdef void _serve_own(self) except *
    cdef void _forget_duplicate(self, int packet_id) except *
    cdef void _after_hold(self) except *
    cdef void _discard(self, event) except *
    cdef void _end_keeper(self, text) except *
    cdef void _look_after_held(self) except *
    @cython.locals(stop=cython.bint, pending=cython.int)
    cdef void _set_reading(self) except *
    cdef void _wake_by(self, double at) except *
    cdef void _skipped(self) except *
    cdef void _tell_client(self, bytes wire) except *
    cdef void _tell_waiting(self) except *
    cdef void _settle(self, int packet_id) except *
    cdef bytes _control(self, int kind, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end)
    cdef bint _take_quota(self, int packet_id) except -1
    cdef bytes _aliased(self, bytes data)
    @cython.locals(head=bytes)
    cdef bytes _without_alias(self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic)
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _broker_packets(self, bytes data) except *
    cdef bytes _accept(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end)
    cdef void _keep_alive(self) except *
    cdef void _plan(self) except *
    cdef void _send_broker(self, bytes data) except *
    cdef void _keep_client(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    cdef void _keep_broker(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    cdef void _end(self, event) except *
    cdef void _leave(self, event) except *
    cdef void _violation(self, error) except *
    cdef void _broker_violation(self, error) except *
