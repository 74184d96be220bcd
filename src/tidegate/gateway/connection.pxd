cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.delivering cimport Delivering
from tidegate.gateway.guard cimport Guard
from tidegate.mqtt.ack cimport Ack
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int ARRIVED, AUTH, CLOSED, CONNECT, DISCONNECT, EMPTYING, FORWARDED, GREETING, LEAVING, OPEN, OPENING, PARKED
cdef int ON_SUBSCRIBE, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, QUEUED, SUBSCRIBE, TURNED_AWAY, UNSUBSCRIBE
cdef Py_ssize_t REQUEST
cdef Py_ssize_t BYTES_FROM_CLIENT, INFLIGHT_FROM_BROKER, PACKETS_FROM_CLIENT

cdef Frame frame
cdef Publish publish
cdef Ack ack

cdef class Connection(Delivering):
    cdef object _estate

    @cython.locals(missing=Py_ssize_t, parked=Py_ssize_t)
    cpdef void client_bytes(self, bytes data, double now) except *
    @cython.locals(
        size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t, head=bytes, topic=bytes,
        live=cython.bint, kept=cython.int, left=cython.int, paced=cython.bint
    )
    cdef void _client_packets(self, bytes data, Py_ssize_t start=*) except *
    cdef bint _may_speak(self) except -1
    cdef void _end(self, event) except *
    cdef void _release_windows(self) except *
    cdef bytes _control(self, int kind, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end)
    @cython.locals(guard=Guard)
    cdef object _requests(self, bytes wire, bint subscribes)
