cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.pacing cimport Pacing

cdef int ARRIVED, EMPTYING, LEAVING, OPEN, OPENING, ORPHANED, QUEUED, TURNED_AWAY

cdef class Timing(Pacing):
    cdef double packet_timeout
    cdef public bint client_excused
    cdef public bint client_unread
    cdef bytearray _client_tail
    cdef Py_ssize_t _client_need
    cdef double _packet_by
    cdef Py_ssize_t _packet_bytes
    cdef double _unread_since

    cdef void _begin(self, Counters counters, bounds, double now) except *
    cpdef void tick(self, double now) except *
    cdef void _plan(self) except *
    cdef void _look_after_held(self) except *
    cdef void _end_keeper(self, text) except *
    cdef void _keep_client(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    cdef void _begin_packet(self, Py_ssize_t at) except *
    cdef void _expect_more(self) except *
    cpdef void client_takes(self, bint takes, double now) except *
    cpdef void client_read_again(self, double now) except *
    cdef void _look_after_packet(self) except *
    cdef void _keep_alive(self) except *
    cdef void _end(self, event) except *
