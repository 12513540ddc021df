/* What the files of the kernel share: the loops in force, checks on arrays, and the types they add to the module. */
#ifndef SONA_KERNEL_H
#define SONA_KERNEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL sona_kernel_array_api
#ifndef SONA_KERNEL_MODULE
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

typedef struct {
    float (*dot)(const float *x, const float *y, ptrdiff_t n);
    double (*dot_wide)(const float *x, const float *y, ptrdiff_t n);
    float (*project)(const float *x, const float *down, ptrdiff_t n, int r, float *hidden);
    void (*combine)(const float *base, const float *rows, const float *weights, ptrdiff_t n, int r, float *out);
    void (*add)(const float *x, float weight, const float *y, ptrdiff_t n, float *out);
    void (*scale)(float weight, const float *x, ptrdiff_t n, float *out);
    void (*outer)(const float *base, const float *x, const float *weights, ptrdiff_t n, int r, float *out);
    void (*turn)(const float *a, ptrdiff_t n, int r, float *down);
    void (*products)(const float *rows, const float *x, ptrdiff_t count, ptrdiff_t n, float *scores);
    void (*products_of_two)(const float *rows, const float *x, const float *y, ptrdiff_t count, ptrdiff_t n,
                            float *of_x, float *of_y);
    float (*constrain)(const float *g, const float *w, const float *anchor, const float *pull, float rate,
                       ptrdiff_t n, float *out);
    void (*blend)(double *moment, const float *g, double keep, double share, ptrdiff_t n);
} Loops;

extern const Loops *loops;           /* those in force */
extern const char *loops_level;      /* their instruction set */
int loops_select(const char *level); /* NULL takes the best there is; 0 when this processor lacks it */

/* Work of at least so many multiplications is done without the interpreter's lock. */
#define WORTH_RELEASING (1 << 17)

/* A squared length below it is finite, and so is every number. */
#define SQUARE_LIMIT 3.4e38f

static inline float *floats(PyArrayObject *array) { return (float *)PyArray_DATA(array); }

/* True for a float32 array of the machine's byte order, aligned, C-contiguous, of `ndim` dimensions. */
static inline int is_plain(PyObject *value, int ndim, int type) {
    PyArrayObject *array = (PyArrayObject *)value;
    return PyArray_CheckExact(value) && PyArray_TYPE(array) == type && PyArray_NDIM(array) == ndim &&
           PyArray_ISCARRAY_RO(array);
}

static inline int is_vector(PyObject *value, npy_intp width) {
    return is_plain(value, 1, NPY_FLOAT32) && PyArray_DIM((PyArrayObject *)value, 0) == width;
}

/* A new float32 vector. */
static inline PyArrayObject *new_vector(npy_intp width) {
    return (PyArrayObject *)PyArray_SimpleNew(1, &width, NPY_FLOAT32);
}

static inline int shares_memory(PyArrayObject *x, PyArrayObject *y) {
    const char *a = PyArray_BYTES(x), *b = PyArray_BYTES(y);
    return a + PyArray_NBYTES(x) > b && b + PyArray_NBYTES(y) > a;
}

/* True when `out` may be written while `x`, of its shape and type, is read: the very same numbers, or none of them. */
static inline int is_apart(PyArrayObject *out, PyArrayObject *x) {
    return PyArray_BYTES(out) == PyArray_BYTES(x) || !shares_memory(out, x);
}

/* |x|^2; in float64 where float32 is too narrow. */
static inline double square(const float *x, ptrdiff_t n) {
    float narrow = loops->dot(x, x, n);
    return narrow < SQUARE_LIMIT && narrow > 1e-30f ? narrow : loops->dot_wide(x, x, n);
}

extern PyType_Spec low_rank_spec;
extern PyType_Spec maker_spec;
extern PyMethodDef vector_methods[];
extern PyMethodDef search_methods[];
extern PyMethodDef record_methods[];
extern PyMethodDef gather_methods[];
extern PyMethodDef sequence_methods[];

#endif
