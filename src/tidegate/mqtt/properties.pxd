cimport cython

from tidegate.mqtt.text cimport field_end, text_end

@cython.locals(i=Py_ssize_t)
cpdef Py_ssize_t variable_end(bytes data, Py_ssize_t at, Py_ssize_t end) except -1

@cython.locals(i=Py_ssize_t, value=Py_ssize_t)
cpdef Py_ssize_t variable_value(bytes data, Py_ssize_t at, Py_ssize_t stop) except -1

@cython.locals(identifier=cython.int, kind=cython.int, stop=Py_ssize_t)
cpdef Py_ssize_t property_end(bytes data, Py_ssize_t at, Py_ssize_t end, bytes allowed) except -1

@cython.locals(identifier=cython.int, seen=cython.ulonglong, one=cython.ulonglong)
cpdef unsigned long long check_properties(
    bytes data, Py_ssize_t at, Py_ssize_t end, bytes allowed
) except? 0xFFFFFFFFFFFFFFFF

cpdef Py_ssize_t find_property(
    bytes data, Py_ssize_t at, Py_ssize_t end, int identifier, bytes allowed
) except -1
