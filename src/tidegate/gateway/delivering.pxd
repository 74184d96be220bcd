cimport cython

from tidegate.engine.counters cimport Counters
from tidegate.gateway.delivery cimport Delivery
from tidegate.gateway.guard cimport Guard
from tidegate.gateway.timing cimport Timing
from tidegate.mqtt.ack cimport Ack
from tidegate.mqtt.framing cimport Frame
from tidegate.mqtt.publish cimport Publish

cdef int AUTH, CLOSED, CONNACK, DISCONNECT, EMPTYING, FORWARDED, INCOMPLETE, KEPT, ON_DELIVER, OPEN, OPENING, PARKED, PINGRESP
cdef int PUBACK, PUBCOMP, PUBLISH, PUBREC, QUEUED, SUBACK, UNSUBACK
cdef Py_ssize_t BYTES_FROM_BROKER, INFLIGHT_FROM_BROKER, INFLIGHT_FROM_CLIENT, PACKETS_FROM_BROKER

cdef Frame frame
cdef Publish publish
cdef Ack ack

cdef class Delivering(Timing):
    cdef bytearray _broker_tail
    cdef Py_ssize_t _broker_need
    cdef Py_ssize_t _client_pings
    cdef Delivery _delivery
    cdef int _delivery_generation
    cdef bint _skipping_broker
    cdef bint _will_resume_broker
    cdef bint _is_broker_unread
    cdef bint _is_client_full

    cdef void _begin(self, Counters counters, bounds, double now) except *
    cpdef void broker_bytes(self, bytes data, double now) except *
    cdef void _go_on(self) except *
    @cython.locals(
        size=Py_ssize_t, at=Py_ssize_t, run=Py_ssize_t, kind=cython.int, body=Py_ssize_t, end=Py_ssize_t, kept=cython.int,
        left=cython.int
    )
    cdef void _broker_packets(self, bytes data) except *
    cdef void _review_delivery(self) except *
    @cython.locals(delivery=Delivery, guard=Guard, is_shared=cython.bint, kept=cython.int)
    cdef int _deliver(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end) except -1
    cdef void _park_broker(self, bytes data, bint waits) except *
    @cython.locals(is_parked=cython.bint)
    cdef void _set_reading_broker(self) except *
    cdef void _read_broker(self, bint reads) except *
    cdef void _answer_ping(self) except *
    @cython.locals(delivery=Delivery)
    cpdef void resume_broker(self, double now) except *
    @cython.locals(delivery=Delivery)
    cdef void _go_on_delivering(self) except *
    cpdef void client_takes(self, bint takes, double now) except *
    cpdef bint spares_broker(self) except -1
    @cython.locals(delivery=Delivery)
    cdef void _look_after_held(self) except *
    cdef void _plan(self) except *
    @cython.locals(delivery=Delivery)
    cdef void _end_delivery(self, event) except *
    @cython.locals(held=bytes)
    cdef void _stop_delivering(self, event) except *
    cdef void _leave(self, event) except *
    cdef void _keep_broker(self, bytes data, Py_ssize_t at, Py_ssize_t need) except *
    cdef void _end(self, event) except *
