/* Functions on vectors: what may be used as it is, what a request taught, and what is protected. */
#include "kernel.h"

#include <math.h>

/* True when a float32 vector of that width (any of at least 1 when negative) and of finite length. */
static int is_usable(PyObject *value, Py_ssize_t width) {
    if (!is_plain(value, 1, NPY_FLOAT32)) return 0;
    PyArrayObject *x = (PyArrayObject *)value;
    Py_ssize_t d = PyArray_DIM(x, 0);
    return d > 0 && (width < 0 || d == width) && loops->dot(floats(x), floats(x), d) < SQUARE_LIMIT;
}

/* The width a caller gave: -1 for None; -2 with an error. */
static Py_ssize_t width_of(PyObject *given) {
    if (given == Py_None) return -1;
    Py_ssize_t width = PyLong_AsSsize_t(given);
    if (width == -1 && PyErr_Occurred()) return -2;
    return width < 0 ? 0 : width;
}

static int two(Py_ssize_t count) {
    if (count != 2) PyErr_SetString(PyExc_TypeError, "expected two arguments");
    return count == 2;
}

static PyObject *is_usable_vector(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (!two(count)) return NULL;
    Py_ssize_t width = width_of(args[1]);
    return width == -2 ? NULL : PyBool_FromLong(is_usable(args[0], width));
}

static PyObject *kept(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (!two(count)) return NULL;
    Py_ssize_t width = width_of(args[1]);
    if (width == -2) return NULL;
    if (!is_usable(args[0], width)) Py_RETURN_NONE;
    PyArrayObject *x = (PyArrayObject *)args[0];
    if (!PyArray_ISWRITEABLE(x)) return Py_NewRef(args[0]);
    PyArrayObject *copy = new_vector(PyArray_DIM(x, 0));
    if (copy == NULL) return NULL;
    memcpy(floats(copy), floats(x), (size_t)PyArray_NBYTES(x));
    PyArray_CLEARFLAGS(copy, NPY_ARRAY_WRITEABLE);
    return (PyObject *)copy;
}

/* The sum of weights[k] vectors[k] / |vectors[k]|; a zero vector points nowhere. */
static PyObject *headed(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *vectors, *weights;
    Py_ssize_t d;
    if (!PyArg_ParseTuple(args, "O!O!n", &PyTuple_Type, &vectors, &PyTuple_Type, &weights, &d)) return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(vectors);
    if (PyTuple_GET_SIZE(weights) != count || d < 1) Py_RETURN_NONE;
    PyArrayObject *sum = new_vector(d);
    if (sum == NULL) return NULL;
    memset(floats(sum), 0, (size_t)d * sizeof(float));
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *vector = PyTuple_GET_ITEM(vectors, k);
        double weight = PyFloat_AsDouble(PyTuple_GET_ITEM(weights, k));
        if (weight == -1.0 && PyErr_Occurred()) {
            Py_DECREF(sum);
            return NULL;
        }
        if (!is_vector(vector, d)) {
            Py_DECREF(sum);
            Py_RETURN_NONE;
        }
        const float *a = floats((PyArrayObject *)vector);
        double length = sqrt(square(a, d));
        if (length > 0.0) loops->add(floats(sum), (float)(weight / length), a, d, floats(sum));
    }
    return (PyObject *)sum;
}

/* g + pull ((w - anchor) - rate g) into out; None when one of them is not plain. */
static PyObject *constrain(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *g, *w, *anchor, *pull, *out;
    double rate;
    if (!PyArg_ParseTuple(args, "OOOOdO", &g, &w, &anchor, &pull, &rate, &out)) return NULL;
    if (!is_plain(g, 1, NPY_FLOAT32)) Py_RETURN_NONE;
    Py_ssize_t width = PyArray_DIM((PyArrayObject *)g, 0);
    int has_weights = w != Py_None;
    if (!is_vector(anchor, width) || !is_vector(pull, width) || !is_vector(out, width) ||
        (has_weights && !is_vector(w, width)) || !PyArray_ISWRITEABLE((PyArrayObject *)out))
        Py_RETURN_NONE;
    PyArrayObject *others[] = {(PyArrayObject *)g, (PyArrayObject *)anchor, (PyArrayObject *)pull,
                               (PyArrayObject *)(has_weights ? w : g)};
    for (int k = 0; k < 4; k++)
        if (!is_apart((PyArrayObject *)out, others[k])) Py_RETURN_NONE;
    const float *at = has_weights ? floats(others[3]) : NULL;
    if (width >= WORTH_RELEASING) {
        Py_BEGIN_ALLOW_THREADS;
        loops->constrain(floats(others[0]), at, floats(others[1]), floats(others[2]), (float)rate, width,
                         floats((PyArrayObject *)out));
        Py_END_ALLOW_THREADS;
    } else {
        loops->constrain(floats(others[0]), at, floats(others[1]), floats(others[2]), (float)rate, width,
                         floats((PyArrayObject *)out));
    }
    return Py_NewRef(out);
}

/* moment = keep moment + (1 - keep) mean of the squared rows of g (n, p); None when one of them is not plain. */
static PyObject *blend(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *moment, *g;
    double keep;
    if (!PyArg_ParseTuple(args, "OOd", &moment, &g, &keep)) return NULL;
    if (!is_plain(moment, 1, NPY_FLOAT64) || !is_plain(g, 2, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *sum = (PyArrayObject *)moment, *rows = (PyArrayObject *)g;
    Py_ssize_t n = PyArray_DIM(rows, 0), width = PyArray_DIM(rows, 1);
    if (n < 1 || PyArray_DIM(sum, 0) != width || !PyArray_ISWRITEABLE(sum)) Py_RETURN_NONE;
    double share = (1.0 - keep) / (double)n, *values = (double *)PyArray_DATA(sum);
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t row = 0; row < n; row++)
        loops->blend(values, floats(rows) + row * width, row == 0 ? keep : 1.0, share, width);
    Py_END_ALLOW_THREADS;
    return Py_NewRef(moment);
}

PyMethodDef vector_methods[] = {
    {"is_vector", (PyCFunction)(void (*)(void))is_usable_vector, METH_FASTCALL,
     "True for a plain float32 vector of finite length and of that width; None is any."},
    {"kept", (PyCFunction)(void (*)(void))kept, METH_FASTCALL,
     "The vector, or where it could be changed a read-only copy; None when `is_vector` is False."},
    {"headed", headed, METH_VARARGS, "The sum of weights times directions."},
    {"constrain", constrain, METH_VARARGS, "The gradient whose step is the implicit one."},
    {"blend", blend, METH_VARARGS, "Blend mean squares into a running moment."},
    {NULL, NULL, 0, NULL},
};
