cimport cython

from tidegate.mqtt.properties cimport check_properties, variable_end, variable_value

cdef tuple _CODES

cdef class Ack:
    cdef public int packet_id
    cdef public int reason

    @cython.locals(
        kind=cython.int, wrong=cython.int, size=Py_ssize_t, codes=bytes, start=Py_ssize_t, stop=Py_ssize_t
    )
    cpdef void read(self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end, int version) except *
