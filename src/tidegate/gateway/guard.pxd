cimport cython

from tidegate.engine.binding cimport Engine, Subject
from tidegate.mqtt.publish cimport Publish

cdef int _DROP, _REJECT

cdef class Guard:
    cdef readonly Engine engine
    cdef readonly str client_id
    cdef readonly str username
    cdef readonly Subject subject
    cdef readonly int version
    cdef readonly Py_ssize_t client_packet
    cdef readonly bint told
    cdef public object notices
    cdef public object requests
    cdef public object subscriptions
    cdef bint _broker_may_hold
    cdef set _played
    cdef readonly object waiting
    cdef readonly dict windows
    cdef dict _owed
    cdef bint _is_sharing
    cdef bint _is_excused

    @cython.locals(again=cython.bint, action=cython.int, owed=cython.uint)
    cpdef int judge(
        self, Publish publish, bytes text, Py_ssize_t at, Py_ssize_t end, Py_ssize_t packet, Py_ssize_t payload,
        double now, unsigned long long turn=*, bint held=*, bint ask=*
    ) except -1
    cpdef bint may_be_there(self, Publish publish) except -1
    cpdef void acknowledged(self, int packet_id, double now) except *
    cpdef void received(self, int packet_id, double now) except *
    cpdef bint released(self, int packet_id) except -1
    cpdef int playing(self) except -1
    cpdef bytes answer(self, int action, Publish publish, bint brief)
    cpdef bint plays(self, int packet_id) except -1
    cpdef bint release(self, int packet_id) except -1
