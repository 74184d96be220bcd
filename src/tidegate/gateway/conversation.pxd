cimport cython

from tidegate.engine.counters cimport Counters

cdef int ARRIVED, EMPTYING, GREETING, LEAVING, OPEN, OPENING, QUEUED

cdef class Conversation:
    cdef readonly Counters counters
    cdef object bounds
    cdef readonly int state
    cdef readonly int version
    cdef readonly list to_client
    cdef readonly list to_broker
    cdef public int commands
    cdef readonly double wake_at
    cdef readonly object fault
    cdef readonly object broker_fault
    cdef public object flusher
    cdef double _now
    cdef double _last_upstream
    cdef Py_ssize_t _client_packet
    cdef Py_ssize_t _broker_left
    cdef list _waiting
    cdef bytes _held
    cdef Py_ssize_t _held_at
    cdef bint _is_parked
    cdef bint _is_unread

    cdef void _begin(self, Counters counters, bounds, double now) except *
    cdef void _send_broker(self, bytes data) except *
    cdef void _tell_client(self, bytes wire) except *
    cdef void _tell_waiting(self) except *
    @cython.locals(stop=cython.bint, pending=cython.int)
    cdef void _set_reading(self) except *
    cdef void _wake_by(self, double at) except *
    cpdef bint is_within(self) except -1
    cdef void _violation(self, error) except *
    cdef void _broker_violation(self, error) except *
    cdef void _leave(self, event) except *
    cdef void _end(self, event) except *
