cimport cython

from tidegate.engine.binding cimport Engine
from tidegate.engine.counters cimport Counters
from tidegate.gateway.aliases cimport Aliases
from tidegate.gateway.guard cimport Guard
from tidegate.mqtt.ack cimport Ack
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int _GREETING, _OPENING, _OPEN, _LEAVING, _CLOSED
cdef int _CONNECT, _CONNACK, _PUBLISH, _PUBACK, _PUBREC, _PUBREL, _PUBCOMP, _SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK
cdef int _PINGREQ, _PINGRESP, _DISCONNECT, _AUTH, _LIMITED
cdef Py_ssize_t _FROM_CLIENT, _FROM_BROKER, _CLIENT_BYTES, _BROKER_BYTES

cdef Frame _frame
cdef Publish _publish
cdef Ack _ack

cdef class Connection:
    cdef readonly Counters counters
    cdef Py_ssize_t max_packet
    cdef double connect_timeout
    cdef readonly int state
    cdef readonly int version
    cdef readonly list to_client
    cdef readonly list to_broker
    cdef public int commands
    cdef readonly double wake_at
    cdef public bint client_excused
    cdef readonly object fault
    cdef readonly object broker_fault
    cdef readonly bint doubt_broker
    cdef Engine _engine
    cdef bytes _address
    cdef bytes _listener
    cdef object _connect
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
    cdef bint _skipping
    cdef bytes _owed
    cdef list _waiting
    cdef bytearray _broker_tail
    cdef Py_ssize_t _broker_need
    cdef Py_ssize_t _broker_left
    cdef Py_ssize_t _client_packet
    cdef Py_ssize_t _broker_packet
    cdef Py_ssize_t _receive_maximum
    cdef set _unacknowledged
    cdef Aliases _aliases
    cdef bint _enhanced
    cdef bint _client_turn
    cdef Py_ssize_t _client_pings
    cdef Py_ssize_t _own_pings

    @cython.locals(missing=Py_ssize_t)
    cpdef void client_bytes(self, bytes data, double now) except *
    cpdef void broker_bytes(self, bytes data, double now) except *
    cpdef void tick(self, double now) except *

    @cython.locals(
        size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t, head=bytes, topic=bytes,
        live=cython.bint
    )
    cdef void _client_packets(self, bytes data) except *
    @cython.locals(at=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _client_opening(self, bytes data) except *
    cdef void _greet(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end) except *
    cdef void _check_padding(self) except *
    @cython.locals(text=bytes, start=Py_ssize_t, stop=Py_ssize_t, guard=Guard, action=cython.int, answer=bytes, again=cython.bint)
    cdef bint _refused(self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic, bint live) except -1
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
