cdef class Aliases:
    cdef dict topics
    cdef Py_ssize_t size

    cpdef bytes resolve(self, int alias, bytes topic)
