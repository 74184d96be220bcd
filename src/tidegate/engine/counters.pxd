cimport cython

cdef class Counters:
    cdef unsigned long long[::1] words
    cdef Py_ssize_t base

    cpdef void add(self, Py_ssize_t index, unsigned long long amount) except *
    cpdef void subtract(self, Py_ssize_t index, unsigned long long amount) except *
    cpdef void put(self, Py_ssize_t index, unsigned long long value) except *
    cpdef unsigned long long value(self, Py_ssize_t index) except? 0xFFFFFFFFFFFFFFFF
    @cython.locals(wanted=cython.ulonglong, at=Py_ssize_t, last=Py_ssize_t, index=Py_ssize_t, bound=double)
    cpdef void delayed(self, long long slot, unsigned long long identity, double seconds) except *
