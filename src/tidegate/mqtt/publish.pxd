cimport cython

from tidegate.mqtt.properties cimport check_properties, find_property, variable_end, variable_value
from tidegate.mqtt.text cimport check_topic_name, field_end

cdef bytes _PROPERTIES
cdef unsigned long long _FORMAT_BIT
cdef unsigned long long _RESPONSE_TOPIC_BIT
cdef unsigned long long _SUBSCRIPTION_BIT
cdef unsigned long long _ALIAS_BIT

cdef class Publish:
    cdef public int qos
    cdef public bint dup
    cdef public bint retain
    cdef public Py_ssize_t topic
    cdef public Py_ssize_t topic_end
    cdef public int packet_id
    cdef public Py_ssize_t properties
    cdef public Py_ssize_t payload
    cdef public int alias
    cdef public Py_ssize_t alias_at
    cdef public Py_ssize_t needed

    @cython.locals(flags=cython.int, have=Py_ssize_t, place=Py_ssize_t)
    cpdef bint read(
        self, bytes data, Py_ssize_t at, Py_ssize_t body, Py_ssize_t end, int version, bint from_client
    ) except -1

    @cython.locals(start=Py_ssize_t, stop=Py_ssize_t, place=Py_ssize_t, seen=cython.ulonglong)
    cdef bint _read_properties(
        self, bytes data, Py_ssize_t at, Py_ssize_t have, Py_ssize_t end, bint from_client
    ) except -1

    cpdef bytes without_alias(self, bytes data, Py_ssize_t at, Py_ssize_t end, bytes topic)
