cimport cython

from tidegate.engine.binding cimport Engine, Subject
from tidegate.mqtt.publish cimport Publish

cdef int _DROP, _REJECT

cdef class Guard:
    cdef Engine engine
    cdef Subject subject
    cdef int version
    cdef Py_ssize_t client_packet
    cdef bint told
    cdef public object notices
    cdef bint _broker_may_hold
    cdef set _played

    @cython.locals(again=cython.bint, action=cython.int)
    cpdef int judge(
        self, Publish publish, bytes text, Py_ssize_t at, Py_ssize_t end, Py_ssize_t packet, Py_ssize_t payload,
        double now
    ) except -1
    cpdef bytes answer(self, int action, Publish publish, bint brief)
    cpdef bint plays(self, int packet_id) except -1
    cpdef bint release(self, int packet_id) except -1
