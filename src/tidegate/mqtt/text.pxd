cimport cython

@cython.locals(first=cython.int, size=cython.int, second=cython.int, low=cython.int, high=cython.int, i=Py_ssize_t)
cpdef Py_ssize_t sequence_end(bytes data, Py_ssize_t at, Py_ssize_t end) except -1

@cython.locals(byte=cython.int)
cpdef void check_text(bytes data, Py_ssize_t at, Py_ssize_t end) except *

@cython.locals(byte=cython.int)
cpdef void check_topic_name(bytes data, Py_ssize_t at, Py_ssize_t end) except *

@cython.locals(stop=Py_ssize_t)
cpdef Py_ssize_t field_end(bytes data, Py_ssize_t at, Py_ssize_t end) except -1

cpdef Py_ssize_t text_end(bytes data, Py_ssize_t at, Py_ssize_t end) except -1
