cimport cython

cdef class Frame:
    cdef public Py_ssize_t body
    cdef public Py_ssize_t end
    cdef public bint padded

    @cython.locals(size=Py_ssize_t, length=Py_ssize_t, shift=cython.int, i=Py_ssize_t, byte=cython.int)
    cpdef bint read(self, bytes data, Py_ssize_t at) except -1
