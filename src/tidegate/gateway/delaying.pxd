cimport cython

from tidegate.engine.binding cimport Engine
from tidegate.engine.counters cimport Counters
from tidegate.gateway.conversation cimport Conversation
from tidegate.gateway.exchange cimport Exchange
from tidegate.gateway.guard cimport Guard
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int CLOSED, DELAY, DROP, EMPTYING, FORWARDED, KEPT, LEAVING, LIMITED, OPEN, PARKED, REJECT

cdef Frame frame
cdef Publish publish

cdef class Delaying(Exchange):
    cdef object _hold
    cdef bint _is_upstream_full
    cdef bint _own_may_go
    cdef list _forgotten
    cdef readonly str cut_client
    cdef object _turn
    cdef bint _will_resume
    cdef bint _was_counted
    cdef bytes _large
    cdef int _decided
    cdef bytes _answer
    cdef double _stop_until
    cdef Py_ssize_t _overflow_left
    cdef double _overflow_until
    cdef bytes _farewell
    cdef double _empty_by
    cdef bint _is_client_gone

    cdef void _begin(self, Counters counters, bounds, double now) except *
    @cython.locals(
        text=bytes, start=Py_ssize_t, stop=Py_ssize_t, guard=Guard, action=cython.int, again=cython.bint,
        counted=cython.bint, size=Py_ssize_t, payload=Py_ssize_t
    )
    cdef int _keep_back(self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic, bint live) except -1
    @cython.locals(guard=Guard, engine=Engine, packet=bytes, longest=double)
    cdef int _hold_back(
        self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic, bytes name, bint live, bint decided
    ) except -1
    @cython.locals(guard=Guard, action=cython.int)
    cdef int _no_room(self, bytes topic, Py_ssize_t size, Py_ssize_t payload, bint decided) except -1
    @cython.locals(guard=Guard, count=Py_ssize_t, here=Py_ssize_t)
    cdef bint _is_quota_used(self, int own) except -1
    cdef void _park(self, bytes data, Py_ssize_t at, bint live, double longest) except *
    cdef void _yield_turn(self, bytes data, Py_ssize_t at) except *
    cdef void _ask_to_resume(self) except *
    cpdef void resume(self, double now) except *
    @cython.locals(held=bytes, at=Py_ssize_t)
    cdef void _resume(self) except *
    @cython.locals(action=cython.int)
    cdef void _stop_no_longer(self) except *
    cdef void _decide_large(self, bytes topic, int action) except *
    cpdef int serve(self, lane, double now) except -1
    @cython.locals(guard=Guard, engine=Engine, data=bytes, end=Py_ssize_t, payload=Py_ssize_t, action=cython.int, is_stuck=cython.bint)
    cdef int _try(self, bytes topic, unsigned long long turn, bint late=*) except -1
    cpdef bint is_stuck(self) except -1
    cdef void _read_again(self, bytes data) except *
    cdef void _follow(self, bytes topic) except *
    cdef void _expire(self) except *
    cdef void _serve_own(self) except *
    cdef void _forget_duplicate(self, int packet_id) except *
    cdef void _after_hold(self) except *
    cdef void _leave(self, event) except *
    cdef void _end(self, event) except *
    cdef void _discard(self, event) except *
    cdef void _client_packets(self, bytes data, Py_ssize_t start=*) except *
