/* Functions on vectors: what may be used as it is, what a request taught, and what is protected. */
#include "kernel.h"

#include <float.h>
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

/* x / |x|, the length rounded to float32 where that holds all its digits; a zero vector stays zero. 0 when it is not
   finite. */
static int scale_to_one(const float *x, Py_ssize_t d, float *out) {
    double length = sqrt(loops->dot_wide(x, x, d));
    float narrow = (float)length;
    if (length == 0.0)
        memset(out, 0, (size_t)d * sizeof(float));
    else if (narrow >= FLT_MIN && narrow <= FLT_MAX)
        for (Py_ssize_t i = 0; i < d; i++) out[i] = x[i] / narrow;
    else
        for (Py_ssize_t i = 0; i < d; i++) out[i] = (float)(x[i] / length);
    return isfinite(length);
}

/* `found`, or None when a row has no direction. */
static PyObject *directed(PyArrayObject *found, int is_finite) {
    if (is_finite) return (PyObject *)found;
    Py_DECREF(found);
    Py_RETURN_NONE;
}

/* The direction of a vector, or of every row. */
static PyObject *unit(PyObject *module, PyObject *value) {
    (void)module;
    int is_one = is_plain(value, 1, NPY_FLOAT32);
    if (!is_one && !is_plain(value, 2, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *x = (PyArrayObject *)value;
    PyArrayObject *found = (PyArrayObject *)PyArray_SimpleNew(is_one ? 1 : 2, PyArray_DIMS(x), NPY_FLOAT32);
    if (found == NULL) return NULL;
    Py_ssize_t d = PyArray_DIM(x, is_one ? 0 : 1), count = is_one ? 1 : PyArray_DIM(x, 0);
    int is_finite = 1;
    for (Py_ssize_t row = 0; row < count && is_finite; row++)
        is_finite = scale_to_one(floats(x) + row * d, d, floats(found) + row * d);
    return directed(found, is_finite);
}

/* The directions of some vectors, row by row. */
static PyObject *units(PyObject *module, PyObject *given) {
    (void)module;
    if (!PyList_Check(given) || PyList_GET_SIZE(given) == 0) Py_RETURN_NONE;
    npy_intp shape[] = {PyList_GET_SIZE(given), 0};
    for (Py_ssize_t row = 0; row < shape[0]; row++) {
        PyObject *vector = PyList_GET_ITEM(given, row);
        if (!is_plain(vector, 1, NPY_FLOAT32)) Py_RETURN_NONE;
        if (row == 0) shape[1] = PyArray_DIM((PyArrayObject *)vector, 0);
        if (PyArray_DIM((PyArrayObject *)vector, 0) != shape[1]) Py_RETURN_NONE;
    }
    PyArrayObject *found = (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (found == NULL) return NULL;
    int is_finite = 1;
    for (Py_ssize_t row = 0; row < shape[0] && is_finite; row++)
        is_finite = scale_to_one(floats((PyArrayObject *)PyList_GET_ITEM(given, row)), shape[1],
                                 floats(found) + row * shape[1]);
    return directed(found, is_finite);
}

/* sum += weight a / length; a factor that float32 holds badly is not formed. */
static void add_direction(float *sum, const float *a, double weight, double length, Py_ssize_t d) {
    double factor = weight / length;
    if (factor == 0.0 || (fabs(factor) > 1e-30 && fabs(factor) < 1e30))
        loops->add(sum, (float)factor, a, d, sum);
    else
        for (Py_ssize_t i = 0; i < d; i++) sum[i] += (float)(weight * (a[i] / length));
}

/* The numbers of a tuple, or -1 with an error. */
static int numbers(PyObject *given, double *into) {
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(given); k++) {
        into[k] = PyFloat_AsDouble(PyTuple_GET_ITEM(given, k));
        if (into[k] == -1.0 && PyErr_Occurred()) return -1;
    }
    return 0;
}

static int are_vectors(PyObject *given, Py_ssize_t d) {
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(given); k++)
        if (!is_vector(PyTuple_GET_ITEM(given, k), d)) return 0;
    return 1;
}

static const float *vector_at(PyObject *vectors, Py_ssize_t k) {
    return floats((PyArrayObject *)PyTuple_GET_ITEM(vectors, k));
}

#define SOME 64 /* vectors that need no memory of their own */

/* sum = sum_k weights[k] vectors[k] / lengths[k]; a zero vector points nowhere. */
static void head(PyObject *vectors, const double *weights, const double *lengths, Py_ssize_t d, float *sum) {
    memset(sum, 0, (size_t)d * sizeof(float));
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(vectors); k++)
        if (lengths[k] > 0.0) add_direction(sum, vector_at(vectors, k), weights[k], lengths[k], d);
}

/* max(r) sum_k (r_k / sum r - p_k) a_k / |a_k| orthogonal to x, with p the softmax of cos(x, a_k) / temperature. */
static void prefer(PyObject *vectors, double *rewards, const double *lengths, const float *x, double temperature,
                   Py_ssize_t d, double *room, float *sum) {
    Py_ssize_t count = PyTuple_GET_SIZE(vectors);
    double *scores = room, *chances = room + count;
    double along = sqrt(square(x, d)), greatest = 0.0, total = 0.0, best = -INFINITY, all = 0.0, inward = 0.0;
    if (!(along > 0.0)) along = 1.0;
    for (Py_ssize_t k = 0; k < count; k++) {
        double product = lengths[k] > 0.0 ? loops->dot_wide(vector_at(vectors, k), x, d) : 0.0;
        scores[k] = lengths[k] > 0.0 ? product / lengths[k] / along : 0.0;
        best = fmax(best, scores[k]);
        greatest = fmax(greatest, rewards[k]);
        total += rewards[k];
    }
    for (Py_ssize_t k = 0; k < count; k++) all += chances[k] = exp((scores[k] - best) / temperature);
    for (Py_ssize_t k = 0; k < count; k++) {
        rewards[k] = greatest * (rewards[k] / total - chances[k] / all);
        inward += rewards[k] * scores[k];
    }
    head(vectors, rewards, lengths, d, sum);
    add_direction(sum, x, -inward, along, d); /* the cosine does not see the part along x */
}

/* What `headed` and `preferred` share: x is NULL for the former. */
static PyObject *summed(PyObject *vectors, PyObject *weights, Py_ssize_t d, PyObject *x, double temperature) {
    Py_ssize_t count = PyTuple_GET_SIZE(vectors);
    if (PyTuple_GET_SIZE(weights) != count || d < 1 || !are_vectors(vectors, d)) Py_RETURN_NONE;
    double own[4 * SOME], *room = count <= SOME ? own : PyMem_Malloc((size_t)(4 * count) * sizeof(double));
    if (room == NULL) return PyErr_NoMemory();
    double *lengths = room + count;
    int is_finite = x == NULL || isfinite(square(floats((PyArrayObject *)x), d));
    for (Py_ssize_t k = 0; k < count; k++) {
        lengths[k] = sqrt(square(vector_at(vectors, k), d));
        is_finite = is_finite && isfinite(lengths[k]);
    }
    PyArrayObject *sum = numbers(weights, room) < 0 ? NULL : new_vector(d);
    if (sum != NULL && is_finite && x == NULL) head(vectors, room, lengths, d, floats(sum));
    if (sum != NULL && is_finite && x != NULL)
        prefer(vectors, room, lengths, floats((PyArrayObject *)x), temperature, d, room + 2 * count, floats(sum));
    if (room != own) PyMem_Free(room);
    if (sum == NULL || is_finite) return (PyObject *)sum;
    Py_DECREF(sum);
    Py_RETURN_NONE;
}

static PyObject *headed(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *vectors, *weights;
    Py_ssize_t d;
    if (!PyArg_ParseTuple(args, "O!O!n", &PyTuple_Type, &vectors, &PyTuple_Type, &weights, &d)) return NULL;
    return summed(vectors, weights, d, NULL, 1.0);
}

static PyObject *preferred(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *vectors, *rewards, *x;
    double temperature;
    if (!PyArg_ParseTuple(args, "O!O!Od", &PyTuple_Type, &vectors, &PyTuple_Type, &rewards, &x, &temperature))
        return NULL;
    if (!is_plain(x, 1, NPY_FLOAT32)) Py_RETURN_NONE;
    return summed(vectors, rewards, PyArray_DIM((PyArrayObject *)x, 0), x, temperature);
}

/* x + sum_k weights[k] vectors[k], added up one by one. */
static PyObject *combined(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *x, *vectors, *weights;
    if (!PyArg_ParseTuple(args, "OO!O!", &x, &PyTuple_Type, &vectors, &PyTuple_Type, &weights)) return NULL;
    if (!is_plain(x, 1, NPY_FLOAT32)) Py_RETURN_NONE;
    Py_ssize_t d = PyArray_DIM((PyArrayObject *)x, 0), count = PyTuple_GET_SIZE(vectors);
    if (PyTuple_GET_SIZE(weights) != count || !are_vectors(vectors, d)) Py_RETURN_NONE;
    PyArrayObject *sum = new_vector(d);
    if (sum == NULL) return NULL;
    memcpy(floats(sum), floats((PyArrayObject *)x), (size_t)d * sizeof(float));
    for (Py_ssize_t k = 0; k < count; k++) {
        double weight = PyFloat_AsDouble(PyTuple_GET_ITEM(weights, k));
        if (weight == -1.0 && PyErr_Occurred()) {
            Py_DECREF(sum);
            return NULL;
        }
        loops->add(floats(sum), (float)weight, vector_at(vectors, k), d, floats(sum));
    }
    return (PyObject *)sum;
}

/* g + pull ((w - anchor) - rate g): into out as it comes, or as a new array when that is finite; else None. */
static PyObject *constrain(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 6) {
        PyErr_SetString(PyExc_TypeError, "expected gradient, weights, anchor, pull, rate and out");
        return NULL;
    }
    double rate = PyFloat_AsDouble(args[4]);
    if (rate == -1.0 && PyErr_Occurred()) return NULL;
    if (!is_plain(args[2], 1, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *anchor = (PyArrayObject *)args[2], *out = (PyArrayObject *)args[5];
    Py_ssize_t width = PyArray_DIM(anchor, 0);
    int has_weights = args[1] != Py_None, has_out = args[5] != Py_None;
    if (!is_vector(args[0], width) || !is_vector(args[3], width) || (has_weights && !is_vector(args[1], width)))
        Py_RETURN_NONE;
    PyArrayObject *read[] = {(PyArrayObject *)args[0], anchor, (PyArrayObject *)args[3],
                             (PyArrayObject *)args[has_weights ? 1 : 0]};
    if (has_out) {
        if (!is_vector(args[5], width) || !PyArray_ISWRITEABLE(out)) Py_RETURN_NONE;
        for (int k = 0; k < 4; k++)
            if (!is_apart(out, read[k])) Py_RETURN_NONE;
        Py_INCREF(out);
    } else {
        out = new_vector(width);
        if (out == NULL) return NULL;
    }
    const float *at = has_weights ? floats(read[3]) : NULL;
    float square;
    if (width >= WORTH_RELEASING) {
        Py_BEGIN_ALLOW_THREADS;
        square = loops->constrain(floats(read[0]), at, floats(read[1]), floats(read[2]), (float)rate, width, floats(out));
        Py_END_ALLOW_THREADS;
    } else {
        square = loops->constrain(floats(read[0]), at, floats(read[1]), floats(read[2]), (float)rate, width, floats(out));
    }
    if (has_out || square < SQUARE_LIMIT) return (PyObject *)out;
    Py_DECREF(out);
    Py_RETURN_NONE;
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
    if (shares_memory(sum, rows)) Py_RETURN_NONE;
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
    {"unit", unit, METH_O, "The direction of a vector, or of every row."},
    {"units", units, METH_O, "The directions of some vectors, row by row."},
    {"combined", combined, METH_VARARGS, "A vector plus weights times others."},
    {"headed", headed, METH_VARARGS, "The sum of weights times directions."},
    {"preferred", preferred, METH_VARARGS, "The gradient of what earned more over what is likelier."},
    {"constrain", (PyCFunction)(void (*)(void))constrain, METH_FASTCALL, "The gradient whose step is the implicit one."},
    {"blend", blend, METH_VARARGS, "Blend mean squares into a running moment."},
    {NULL, NULL, 0, NULL},
};
