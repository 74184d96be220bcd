cdef class Counters:
    cdef unsigned long long[::1] words
    cdef Py_ssize_t base

    cpdef void add(self, Py_ssize_t index, unsigned long long amount) except *
    cpdef void put(self, Py_ssize_t index, unsigned long long value) except *
    cpdef unsigned long long value(self, Py_ssize_t index) except? 0xFFFFFFFFFFFFFFFF
