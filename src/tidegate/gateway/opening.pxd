cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.conversation cimport Conversation
from tidegate.gateway.guard cimport Guard
from tidegate.mqtt.framing cimport Frame

cdef int ARRIVED, AUTH, CLOSED, CONNACK, CONNECT, DELAY, DROP, GREETING, LIMITED, OPENING, ORPHANED, PASS, QUEUED, REJECT
cdef int TURNED_AWAY
cdef Py_ssize_t PACKETS_FROM_BROKER, PACKETS_FROM_CLIENT

cdef Frame frame

cdef class Opening(Conversation):
    cdef Py_ssize_t max_packet
    cdef double connect_timeout
    cdef public object has_hung_up
    cdef readonly bint doubt_broker
    cdef object _door
    cdef object _admission
    cdef bytes _address
    cdef object _connect
    cdef bytes _greeting
    cdef bytes _connack
    cdef bint _is_admitted
    cdef object _will
    cdef object _search
    cdef bint _enhanced
    cdef bint _client_turn
    cdef double _last_client
    cdef Py_ssize_t _own_pings
    cdef Guard _guard
    cdef double _keepalive
    cdef Py_ssize_t _receive_maximum
    cdef Py_ssize_t _broker_quota
    cdef Py_ssize_t _broker_packet

    cdef void _begin(self, Counters counters, bounds, double now) except *
    cpdef void enter(self, door, bytes address, bytes listener) except *
    cdef int _admit(self, bint late=*) except -1
    cdef void _await_turn(self) except *
    cdef void _keep_out(self, int action, denial) except *
    cdef void _come_in(self) except *
    cdef void _read_held(self) except *
    cpdef int serve(self, lane, double now) except -1
    cpdef void turn_away(self, double now) except *
    @cython.locals(at=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _client_opening(self, bytes data) except *
    cdef void _greet(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end) except *
    cdef void _check_padding(self) except *
    cdef void _go_up(self) except *
    cdef void _look_for_former(self) except *
    cdef bytes _accept(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end)
    cdef void _end(self, event) except *
    cdef void _keep_client(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _broker_packets(self, bytes data) except *
    cdef void _go_on(self) except *
    cdef void _plan(self) except *
