/* Exact search: products with many rows, and the greatest of many numbers, equal ones by index. */
#include "kernel.h"

#include <math.h>

#define BLOCK 1024           /* rows scored at a time */
#define LEAST_SQUARE 1e-30f  /* of a squared length that float32 holds with all its digits */

typedef struct {
    npy_int64 row;
    float score;
} Found;

/* The greatest so far, best first; `size` of at most `k`. */
typedef struct {
    Found *found;
    Py_ssize_t k, size;
} Best;

/* Numbers come in the order of their rows, so an equal one ranks behind those that are there. */
static void offer(Best *best, npy_int64 row, float score) {
    Py_ssize_t place;
    if (best->size == best->k) {
        if (!(score > best->found[best->k - 1].score)) return;
        place = best->k - 1;
    } else {
        if (!(score > -INFINITY)) return;
        place = best->size++;
    }
    for (; place > 0 && score > best->found[place - 1].score; place--) best->found[place] = best->found[place - 1];
    best->found[place] = (Found){row, score};
}

static void offer_all(Best *best, npy_int64 first, const float *scores, const npy_bool *keep, Py_ssize_t count) {
    for (Py_ssize_t j = 0; j < count; j++)
        if (keep == NULL || keep[first + j]) offer(best, first + j, scores[j]);
}

static void search(Best *best, const float *rows, const float *x, const npy_bool *keep, Py_ssize_t count,
                   Py_ssize_t n) {
    float scores[BLOCK];
    for (Py_ssize_t first = 0; first < count; first += BLOCK) {
        Py_ssize_t some = count - first < BLOCK ? count - first : BLOCK;
        loops->products(rows + first * n, x, some, n, scores);
        offer_all(best, first, scores, keep, some);
    }
}

/* The same of all rows of a table, without the interpreter's lock where that pays. */
static void search_free(Best *best, PyArrayObject *table, PyArrayObject *x, PyArrayObject *mask, Py_ssize_t count) {
    Py_ssize_t n = PyArray_DIM(table, 1);
    const npy_bool *keep = mask == NULL ? NULL : (const npy_bool *)PyArray_DATA(mask);
    if (count > 0 && count * n >= WORTH_RELEASING) {
        Py_BEGIN_ALLOW_THREADS;
        search(best, floats(table), floats(x), keep, count, n);
        Py_END_ALLOW_THREADS;
    } else if (count > 0) {
        search(best, floats(table), floats(x), keep, count, n);
    }
}

/* A pair of arrays: rows (int64) and scores (float32), best first. */
static PyObject *listed(const Best *best) {
    npy_intp size = best->size;
    PyArrayObject *rows = (PyArrayObject *)PyArray_SimpleNew(1, &size, NPY_INT64);
    PyArrayObject *scores = new_vector(size);
    if (rows == NULL || scores == NULL) {
        Py_XDECREF(rows);
        Py_XDECREF(scores);
        return NULL;
    }
    for (Py_ssize_t place = 0; place < size; place++) {
        ((npy_int64 *)PyArray_DATA(rows))[place] = best->found[place].row;
        floats(scores)[place] = best->found[place].score;
    }
    return Py_BuildValue("NN", rows, scores);
}

#define USUAL 64 /* neighbours that need no memory of their own */

static int best_make(Best *best, Found *own, Py_ssize_t k, Py_ssize_t count) {
    best->k = k < count ? k : count;
    best->size = 0;
    best->found = best->k <= USUAL ? own : PyMem_RawMalloc((size_t)best->k * sizeof(Found));
    if (best->found == NULL) PyErr_NoMemory();
    return best->found != NULL;
}

static PyObject *nearest(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *rows, *x, *keep;
    Py_ssize_t k, count;
    if (!PyArg_ParseTuple(args, "OOnOn", &rows, &x, &k, &keep, &count)) return NULL;
    if (!is_plain(rows, 2, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *table = (PyArrayObject *)rows, *mask = keep == Py_None ? NULL : (PyArrayObject *)keep;
    Py_ssize_t n = PyArray_DIM(table, 1);
    if (k < 1 || count < 0 || count > PyArray_DIM(table, 0) || !is_vector(x, n)) Py_RETURN_NONE;
    if (mask != NULL && (!is_plain(keep, 1, NPY_BOOL) || PyArray_DIM(mask, 0) < count)) Py_RETURN_NONE;
    Found own[USUAL];
    Best best;
    if (!best_make(&best, own, k, count)) return NULL;
    search_free(&best, table, (PyArrayObject *)x, mask, count);
    PyObject *result = listed(&best);
    if (best.found != own) PyMem_RawFree(best.found);
    return result;
}

/* A pair of lists: rows, and their products with x over its length as cosines in [-1, 1], best first. */
static PyObject *listed_cosines(const Best *best, double length) {
    PyObject *rows = PyList_New(best->size), *cosines = PyList_New(best->size);
    for (Py_ssize_t place = 0; rows != NULL && cosines != NULL && place < best->size; place++) {
        double cosine = best->found[place].score / length;
        PyObject *row = PyLong_FromLongLong(best->found[place].row);
        PyObject *found = PyFloat_FromDouble(cosine > 1.0 ? 1.0 : cosine < -1.0 ? -1.0 : cosine);
        PyList_SET_ITEM(rows, place, row);
        PyList_SET_ITEM(cosines, place, found);
        if (row == NULL || found == NULL) Py_CLEAR(rows);
    }
    if (rows != NULL && cosines != NULL) return Py_BuildValue("NN", rows, cosines);
    Py_XDECREF(rows);
    Py_XDECREF(cosines);
    return NULL;
}

static PyObject *alike(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    if (given != 4) {
        PyErr_SetString(PyExc_TypeError, "expected rows, a vector, k and which rows to keep");
        return NULL;
    }
    Py_ssize_t k = PyNumber_AsSsize_t(args[2], NULL); /* more than there can be is all there are */
    if (k == -1 && PyErr_Occurred()) return NULL;
    if (k < 1 || !is_plain(args[0], 2, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *table = (PyArrayObject *)args[0], *x = (PyArrayObject *)args[1];
    PyArrayObject *mask = args[3] == Py_None ? NULL : (PyArrayObject *)args[3];
    Py_ssize_t count = PyArray_DIM(table, 0), n = PyArray_DIM(table, 1);
    if (!is_vector(args[1], n)) Py_RETURN_NONE;
    if (mask != NULL && (!is_plain(args[3], 1, NPY_BOOL) || PyArray_DIM(mask, 0) != count)) Py_RETURN_NONE;
    float length = loops->dot(floats(x), floats(x), n);
    if (!(length > LEAST_SQUARE && length < SQUARE_LIMIT)) Py_RETURN_NONE;
    Found own[USUAL];
    Best best;
    if (!best_make(&best, own, k, count)) return NULL;
    search_free(&best, table, x, mask, count);
    PyObject *result = listed_cosines(&best, sqrt(length));
    if (best.found != own) PyMem_RawFree(best.found);
    return result;
}

static PyObject *top(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    if (given != 2) {
        PyErr_SetString(PyExc_TypeError, "expected scores and k");
        return NULL;
    }
    Py_ssize_t k = PyLong_AsSsize_t(args[1]);
    if (k == -1 && PyErr_Occurred()) return NULL;
    if (k < 1 || !is_plain(args[0], 1, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *scores = (PyArrayObject *)args[0];
    Py_ssize_t count = PyArray_DIM(scores, 0);
    Found own[USUAL];
    Best best;
    if (!best_make(&best, own, k, count)) return NULL;
    if (count > 0) offer_all(&best, 0, floats(scores), NULL, count);
    PyObject *result = listed(&best);
    if (best.found != own) PyMem_RawFree(best.found);
    return result;
}

static PyObject *products(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    if (given != 2) {
        PyErr_SetString(PyExc_TypeError, "expected rows and a vector");
        return NULL;
    }
    PyArrayObject *rows = (PyArrayObject *)args[0], *x = (PyArrayObject *)args[1];
    if (!is_plain(args[0], 2, NPY_FLOAT32) || !is_vector(args[1], PyArray_DIM(rows, 1))) Py_RETURN_NONE;
    PyArrayObject *found = new_vector(PyArray_DIM(rows, 0));
    if (found == NULL) return NULL;
    PyThreadState *waiting = PyArray_SIZE(rows) >= WORTH_RELEASING ? PyEval_SaveThread() : NULL;
    loops->products(floats(rows), floats(x), PyArray_DIM(rows, 0), PyArray_DIM(rows, 1), floats(found));
    if (waiting != NULL) PyEval_RestoreThread(waiting);
    return (PyObject *)found;
}

static PyObject *products_of_two(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    if (given != 3) {
        PyErr_SetString(PyExc_TypeError, "expected rows and two vectors");
        return NULL;
    }
    PyArrayObject *rows = (PyArrayObject *)args[0], *x = (PyArrayObject *)args[1], *y = (PyArrayObject *)args[2];
    if (!is_plain(args[0], 2, NPY_FLOAT32) || !is_vector(args[1], PyArray_DIM(rows, 1)) ||
        !is_vector(args[2], PyArray_DIM(rows, 1)))
        Py_RETURN_NONE;
    PyArrayObject *of_x = new_vector(PyArray_DIM(rows, 0)), *of_y = new_vector(PyArray_DIM(rows, 0));
    if (of_x == NULL || of_y == NULL) {
        Py_XDECREF(of_x);
        Py_XDECREF(of_y);
        return NULL;
    }
    PyThreadState *waiting = PyArray_SIZE(rows) >= WORTH_RELEASING ? PyEval_SaveThread() : NULL;
    loops->products_of_two(floats(rows), floats(x), floats(y), PyArray_DIM(rows, 0), PyArray_DIM(rows, 1),
                           floats(of_x), floats(of_y));
    if (waiting != NULL) PyEval_RestoreThread(waiting);
    return Py_BuildValue("NN", of_x, of_y);
}

PyMethodDef search_methods[] = {
    {"nearest", nearest, METH_VARARGS, "Rows and products of the k rows with the greatest product."},
    {"alike", (PyCFunction)(void (*)(void))alike, METH_FASTCALL,
     "Rows and cosines of the k unit rows most similar to a vector, as lists."},
    {"top", (PyCFunction)(void (*)(void))top, METH_FASTCALL, "Indices and values of the k greatest numbers."},
    {"products", (PyCFunction)(void (*)(void))products, METH_FASTCALL, "Products of all rows with a vector."},
    {"products_of_two", (PyCFunction)(void (*)(void))products_of_two, METH_FASTCALL,
     "Products of all rows with two vectors, the rows read once."},
    {NULL, NULL, 0, NULL},
};
