cimport cython

from tidegate.engine.binding cimport Engine, Subject
from tidegate.gateway.exchange cimport Exchange
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int DELAY, DROP, FORWARDED, KEPT, ON_DELIVER, PARKED

cdef Frame frame
cdef Publish publish

cdef class Delivery:
    cdef readonly Engine engine
    cdef object _waiting
    cdef Subject _subject
    cdef Exchange _connection
    cdef bytes _address
    cdef double _now
    cdef object _hold
    cdef dict _tied
    cdef Py_ssize_t _chain_bytes
    cdef dict _windows
    cdef set _shared
    cdef double _shared_since
    cdef bint _is_excused
    cdef set _received
    cdef bint _is_full
    cdef bint _was_counted
    cdef bint _large
    cdef int _decided
    cdef bint _is_parked
    cdef public bint may_resume
    cdef readonly bint has_freed
    cdef bint _delays

    cpdef void review(self) except *
    @cython.locals(counted=cython.bint, action=cython.int, topic=bytes, name=bytes, must=cython.bint)
    cpdef int take(self, bytes data, Py_ssize_t at, Py_ssize_t end, bint is_shared, double now) except -1
    @cython.locals(engine=Engine, action=cython.int)
    cdef int _judge(
        self, bytes data, Py_ssize_t packet, Py_ssize_t payload, unsigned long long turn, bint counted, bint ask, bint must
    ) except -1
    @cython.locals(size=Py_ssize_t, action=cython.int, conflates=cython.bint)
    cdef int _keep(
        self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic, bytes name, bint must, bint decided
    ) except -1
    cdef void _replace(self, bytes name, held, bytes packet) except *
    cdef object _add(self, bytes name, packet, bytes topic, bint must, bint decided)
    cdef bint _has_room(self, Py_ssize_t size, bint must) except -1
    cdef bint _fits(self, Py_ssize_t messages, Py_ssize_t size) except -1
    cdef void _drop(self, bytes name, bint decided) except *
    cdef void _tie(self, hold, bytes topic) except *
    cpdef int serve(self, lane, double now) except -1
    @cython.locals(connection=Exchange, data=bytes, payload=Py_ssize_t, action=cython.int, is_stuck=cython.bint, must=cython.bint)
    cdef int _try(self, bytes name, unsigned long long turn, bint late=*) except -1
    cdef void _follow(self, bytes name) except *
    cpdef void expire(self, double now) except *
    cpdef void go_on(self, double now) except *
    cdef void _look_at_parked(self) except *
    cpdef void takes(self, bint takes, double now) except *
    cpdef void acknowledged(self, int packet_id, double now) except *
    cpdef void received(self, int packet_id, double now) except *
    cpdef void parked(self, double now) except *
    cpdef bint excuse(self, double now) except -1
    cpdef int close(self, double now) except -1
