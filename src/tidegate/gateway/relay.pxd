cimport cython

from tidegate.gateway.connection cimport Connection

cdef int _OPEN_UPSTREAM, _HOLD_CLIENT, _FREE_CLIENT, _RESUME, _END, _ASK, _KEEP, _OPEN, _CLOSED
cdef int _HOLD_BROKER, _FREE_BROKER, _RESUME_BROKER
cdef int _BY_CONNECTION, _BY_BROKER, _BY_CLIENT, _BY_TURN
cdef Py_ssize_t _LARGE_READ

cdef class Relay:
    cdef object host
    cdef object loop
    cdef object clock
    cdef bytes listener
    cdef readonly Connection connection
    cdef object client
    cdef object broker
    cdef object timer
    cdef double timer_at
    cdef int client_stopped
    cdef int broker_stopped
    cdef readonly bint ended
    cdef bint _has_room
    cdef bint _is_opening
    cdef object __weakref__

    @cython.locals(connection=Connection, out=list)
    cpdef void act(self) except *
    @cython.locals(commands=cython.int)
    cdef void _command(self) except *
    cdef void _end(self, bint keeps) except *
    cdef void _release(self) except *
    cdef void _stop_client(self, int reason) except *
    @cython.locals(was=cython.int)
    cdef void _free_client(self, int reason) except *
    cdef void _stop_broker(self, int reason) except *
    @cython.locals(was=cython.int)
    cdef void _free_broker(self, int reason) except *
    cdef void _plan(self) except *
    cpdef void turn(self) except *
    cpdef broker_received(self, bytes data)

cdef class Upstream:
    cdef Relay relay
