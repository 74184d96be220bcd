cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.aliases cimport Aliases
from tidegate.gateway.guard cimport Guard
from tidegate.gateway.opening cimport Opening
from tidegate.mqtt.publish cimport Publish

cdef int BAN, CLOSED, LIMITED
cdef Py_ssize_t INFLIGHT_FROM_BROKER, INFLIGHT_FROM_CLIENT

cdef Publish publish

cdef class Exchange(Opening):
    cdef Aliases _aliases
    cdef set _unacknowledged
    cdef Py_ssize_t _inflight_up
    cdef Py_ssize_t _inflight_down
    cdef Py_ssize_t _client_left
    cdef bint _skipping
    cdef bytes _owed
    cdef readonly bytes broker_held

    cdef void _begin(self, Counters counters, bounds, double now) except *
    cdef bint _take_quota(self, int packet_id) except -1
    cdef void _settle(self, int packet_id) except *
    cdef void _count_sent(self) except *
    cdef bytes _aliased(self, bytes data)
    @cython.locals(head=bytes)
    cdef bytes _without_alias(self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic)
    @cython.locals(answer=bytes)
    cdef void _refuse_message(self, bytes data, Py_ssize_t end, bytes topic, int action, bint live, bint again) except *
    @cython.locals(guard=Guard, has_reason=cython.bint)
    cdef bytes _refusal(self, bytes topic, int action, bint again)
    cpdef bint is_flooded(self) except -1
    @cython.locals(guard=Guard)
    cpdef void overstep(self, int action, reason, text) except *
    @cython.locals(guard=Guard)
    cdef void _leave_out(self, bytes data, Py_ssize_t end, bytes answer) except *
    cdef void _skipped(self) except *
    cdef void _end(self, event) except *
    cdef void _release_windows(self) except *
    cpdef void deliver(self, bytes data, int qos) except *
    cpdef void resume_broker(self, double now) except *
