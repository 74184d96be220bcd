cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.timing cimport Timing
from tidegate.mqtt.ack cimport Ack
from tidegate.mqtt.framing cimport Frame

cdef int AUTH, CLOSED, CONNACK, DISCONNECT, EMPTYING, OPEN, OPENING, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, QUEUED
cdef int SUBACK, UNSUBACK
cdef Py_ssize_t BYTES_FROM_BROKER, INFLIGHT_FROM_BROKER, INFLIGHT_FROM_CLIENT, PACKETS_FROM_BROKER

cdef Frame frame
cdef Ack ack

cdef class Delivering(Timing):
    cdef bytearray _broker_tail
    cdef Py_ssize_t _broker_need
    cdef Py_ssize_t _client_pings

    cdef void _begin(self, Counters counters, bounds, double now) except *
    cpdef void broker_bytes(self, bytes data, double now) except *
    cdef void _go_on(self) except *
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _broker_packets(self, bytes data) except *
    cdef void _keep_broker(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    cdef void _end(self, event) except *
