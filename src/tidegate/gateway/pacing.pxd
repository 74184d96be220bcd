cimport cython

from tidegate.engine.binding cimport Engine
from tidegate.engine.counters cimport Counters
from tidegate.gateway.delaying cimport Delaying
from tidegate.gateway.guard cimport Guard

cdef int DELAY, ON_PACKET

cdef class Pacing(Delaying):
    cdef public bint client_gone
    cdef int _paced_by
    cdef bint _is_paced
    cdef bint _is_paid
    cdef double _gone_by

    cdef void _begin(self, Counters counters, bounds, double now) except *
    @cython.locals(guard=Guard)
    cdef void _find_packet_limits(self) except *
    @cython.locals(guard=Guard, action=cython.int)
    cdef bint _pay(self, bytes data, Py_ssize_t at, Py_ssize_t size) except -1
    @cython.locals(guard=Guard, engine=Engine, patience=double)
    cdef void _queue_packet(self, bytes data, Py_ssize_t at, Py_ssize_t size) except *
    @cython.locals(guard=Guard, engine=Engine, action=cython.int)
    cpdef int serve_packet(self, double now) except -1
    @cython.locals(guard=Guard)
    cdef void _had_turn(self, int action) except *
    @cython.locals(guard=Guard, engine=Engine, action=cython.int)
    cdef void _look_after_turn(self) except *
    cdef void _end_turn(self) except *
    cdef void _leave(self, event) except *
    cdef void _end(self, event) except *
