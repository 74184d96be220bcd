cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.timing cimport Timing
from tidegate.mqtt.ack cimport Ack
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int ARRIVED, AUTH, CLOSED, CONNACK, CONNECT, DISCONNECT, EMPTYING, FORWARDED, GREETING, OPEN, OPENING, PARKED
cdef int PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QUEUED, SUBACK, SUBSCRIBE, TURNED_AWAY, UNSUBACK
cdef int UNSUBSCRIBE
cdef Py_ssize_t BYTES_FROM_BROKER, BYTES_FROM_CLIENT, INFLIGHT_FROM_BROKER, INFLIGHT_FROM_CLIENT
cdef Py_ssize_t PACKETS_FROM_BROKER, PACKETS_FROM_CLIENT

cdef Frame frame
cdef Publish publish
cdef Ack ack

cdef class Connection(Timing):
    cdef bytearray _broker_tail
    cdef Py_ssize_t _broker_need
    cdef Py_ssize_t _client_pings

    cdef void _begin(self, Counters counters, bounds, double now) except *
    @cython.locals(missing=Py_ssize_t)
    cpdef void client_bytes(self, bytes data, double now) except *
    @cython.locals(
        size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t, head=bytes, topic=bytes,
        live=cython.bint, kept=cython.int, left=cython.int
    )
    cdef void _client_packets(self, bytes data) except *
    cdef bytes _control(self, int kind, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end)
    cpdef void broker_bytes(self, bytes data, double now) except *
    cdef void _go_on(self) except *
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t)
    cdef void _broker_packets(self, bytes data) except *
    cdef void _keep_broker(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    cdef void _end(self, event) except *
