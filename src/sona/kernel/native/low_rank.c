/* LowRank: one published state of a low-rank adapter, x' = x + k (x A) (s B), bound to memory of its own. */
#include "kernel.h"

#include <math.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyArrayObject *flat; /* A (d, r), then B (r, d), row by row; never written */
    float *down;         /* A transposed, (r, d) */
    float *up;           /* s B, (r, d) */
    Py_ssize_t d;
    int r;
    double scale, reach, gain;
} LowRank;

/* Room for `count` numbers: `own` where they fit, else from the heap. */
static float *scratch(float *own, Py_ssize_t room, Py_ssize_t count) {
    return count <= room ? own : PyMem_RawMalloc((size_t)count * sizeof(float));
}

#define ROOM 2112

/* The new object takes over the caller's reference to `flat`, also when it fails. */
static LowRank *low_rank_make(PyTypeObject *type, PyArrayObject *flat, Py_ssize_t d, int r, double scale,
                              double reach) {
    LowRank *self = (LowRank *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(flat);
        return NULL;
    }
    self->flat = flat;
    self->d = d;
    self->r = r;
    self->scale = scale;
    self->reach = reach;
    self->down = PyMem_RawMalloc((size_t)(2 * d * r) * sizeof(float));
    if (self->down == NULL) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    self->up = self->down + d * r;
    const float *a = floats(flat), *b = a + d * r;
    loops->turn(a, d, r, self->down);
    loops->scale((float)scale, b, d * r, self->up);
    self->gain = sqrt(square(a, d * r) * square(self->up, d * r)) * (1.0 + 1e-6); /* a bound, rounding included */
    PyArray_CLEARFLAGS(flat, NPY_ARRAY_WRITEABLE);
    return self;
}

static PyObject *low_rank_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *flat;
    Py_ssize_t d;
    int r;
    double scale, reach;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "LowRank takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "Onidd", &flat, &d, &r, &scale, &reach)) return NULL;
    if (d < 1 || r < 1 || d > PY_SSIZE_T_MAX / 64 / r || !is_vector(flat, 2 * d * r)) {
        PyErr_SetString(PyExc_ValueError, "LowRank: expected a float32 vector of 2 d r numbers");
        return NULL;
    }
    return (PyObject *)low_rank_make(type, (PyArrayObject *)Py_NewRef(flat), d, r, scale, reach);
}

static int low_rank_traverse(LowRank *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->flat);
    return 0;
}

static void low_rank_dealloc(LowRank *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->flat);
    PyMem_RawFree(self->down);
    type->tp_free(self);
    Py_DECREF(type);
}

/* k, given the correction `raw` of x before it is shortened. */
static double shrink(const LowRank *self, const float *raw, const float *x, double *length) {
    *length = square(raw, self->d);
    double allowed = self->reach * self->reach * square(x, self->d);
    return *length > allowed ? sqrt(allowed / *length) : 1.0;
}

/* True when the correction of an x of that squared length can overflow nowhere on its way. */
static int fits(const LowRank *self, double square, const float *hidden) {
    for (int k = 0; k < self->r; k++)
        if (!isfinite(hidden[k])) return 0;
    return self->gain * self->gain * square < (double)SQUARE_LIMIT * SQUARE_LIMIT;
}

/* out = x + correction, or the correction alone; 1 when one of them is not finite, before anything is written. */
static int correct_row(const LowRank *self, const float *x, int adds, float *room, float *out) {
    float *hidden = room, *raw = room + self->r;
    float square = loops->project(x, self->down, self->d, self->r, hidden);
    if (!(square < SQUARE_LIMIT)) return 1;
    if (self->gain == 0.0) {
        if (adds)
            memmove(out, x, (size_t)self->d * sizeof(float));
        else
            memset(out, 0, (size_t)self->d * sizeof(float));
    } else if (self->gain > self->reach) {
        double length;
        loops->combine(NULL, self->up, hidden, self->d, self->r, raw);
        float k = (float)shrink(self, raw, x, &length);
        if (!isfinite(length)) return 1;
        if (adds)
            loops->add(x, k, raw, self->d, out);
        else
            loops->scale(k, raw, self->d, out);
    } else {
        if (!fits(self, square, hidden)) return 1;
        loops->combine(adds ? x : NULL, self->up, hidden, self->d, self->r, out);
    }
    return 0;
}

static int correct_rows(const LowRank *self, const float *x, Py_ssize_t n, int adds, float *out) {
    float own[ROOM], *room = scratch(own, ROOM, self->r + self->d);
    int failed = room == NULL ? -1 : 0;
    for (Py_ssize_t row = 0; row < n && failed == 0; row++)
        failed = correct_row(self, x + row * self->d, adds, room, out + row * self->d);
    if (room != own) PyMem_RawFree(room);
    return failed;
}

/* What `forward` and `delta` return: a new array, `out`, or None for what must be looked at more closely. */
static PyObject *correct(LowRank *self, PyObject *const *args, Py_ssize_t count, int adds) {
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "expected x, or x and out");
        return NULL;
    }
    PyObject *out = count == 2 && args[1] != Py_None ? args[1] : NULL;
    int ndim = PyArray_CheckExact(args[0]) ? PyArray_NDIM((PyArrayObject *)args[0]) : 0;
    if ((ndim != 1 && (ndim != 2 || out != NULL)) || !is_plain(args[0], ndim, NPY_FLOAT32)) Py_RETURN_NONE;
    PyArrayObject *x = (PyArrayObject *)args[0];
    if (PyArray_DIM(x, ndim - 1) != self->d) Py_RETURN_NONE;
    if (out == NULL) {
        out = PyArray_SimpleNew(ndim, PyArray_DIMS(x), NPY_FLOAT32);
        if (out == NULL) return NULL;
    } else if (is_vector(out, self->d) && PyArray_ISWRITEABLE((PyArrayObject *)out) &&
               is_apart((PyArrayObject *)out, x)) {
        Py_INCREF(out);
    } else {
        Py_RETURN_NONE;
    }
    Py_ssize_t n = ndim == 1 ? 1 : PyArray_DIM(x, 0);
    int failed;
    if (n * self->d * self->r >= WORTH_RELEASING) {
        Py_BEGIN_ALLOW_THREADS;
        failed = correct_rows(self, floats(x), n, adds, floats((PyArrayObject *)out));
        Py_END_ALLOW_THREADS;
    } else {
        failed = correct_rows(self, floats(x), n, adds, floats((PyArrayObject *)out));
    }
    if (failed == 0) return out;
    Py_DECREF(out);
    if (failed < 0) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *low_rank_forward(LowRank *self, PyObject *const *args, Py_ssize_t count) {
    return correct(self, args, count, 1);
}

static PyObject *low_rank_delta(LowRank *self, PyObject *const *args, Py_ssize_t count) {
    return correct(self, args, count, 0);
}

/* g' of the gradient: inside the trust region g itself, at its edge the part of it that can be followed. */
static const float *followed(const LowRank *self, const float *x, const float *g, const float *hidden, float *raw,
                             float *room) {
    double length;
    if (!(self->gain > self->reach)) return g;
    loops->combine(NULL, self->up, hidden, self->d, self->r, raw);
    double k = shrink(self, raw, x, &length);
    if (!(k < 1.0)) return g;
    double outward = loops->dot_wide(raw, g, self->d);
    outward = outward > 0.0 ? outward / length : 0.0;
    loops->scale((float)k, g, self->d, room);
    loops->add(room, (float)(-k * outward), raw, self->d, room);
    return room;
}

static void add_gradient(const LowRank *self, const float *x, const float *g, const float *base, float *room,
                         float *out) {
    Py_ssize_t d = self->d;
    int r = self->r;
    float *hidden = room, *along = room + r;
    loops->project(x, self->down, d, r, hidden);
    const float *push = followed(self, x, g, hidden, room + 2 * r, room + 2 * r + d);
    for (int k = 0; k < r; k++) along[k] = loops->dot(self->up + k * d, push, d);
    loops->outer(base, x, along, d, r, out);
    for (int k = 0; k < r; k++) {
        Py_ssize_t at = d * r + k * d;
        float weight = hidden[k] * (float)self->scale;
        if (base)
            loops->add(base + at, weight, push, d, out + at);
        else
            loops->scale(weight, push, d, out + at);
    }
}

static PyObject *low_rank_gradient(LowRank *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t d = self->d, width = 2 * d * self->r;
    if (count < 2 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "expected x and g, or x, g and base");
        return NULL;
    }
    PyObject *base = count == 3 && args[2] != Py_None ? args[2] : NULL;
    if (!is_vector(args[0], d) || !is_vector(args[1], d) || (base != NULL && !is_vector(base, width)))
        Py_RETURN_NONE;
    PyArrayObject *out = new_vector(width);
    if (out == NULL) return NULL;
    float own[2 * ROOM], *room = scratch(own, 2 * ROOM, 2 * (d + self->r));
    if (room == NULL) {
        Py_DECREF(out);
        return PyErr_NoMemory();
    }
    add_gradient(self, floats((PyArrayObject *)args[0]), floats((PyArrayObject *)args[1]),
                 base == NULL ? NULL : floats((PyArrayObject *)base), room, floats(out));
    if (room != own) PyMem_RawFree(room);
    if (isfinite(loops->dot(floats(out), floats(out), width))) return (PyObject *)out;
    Py_DECREF(out);
    Py_RETURN_NONE;
}

static int is_sound(const float *values, Py_ssize_t count, double limit) {
    /* No number is greater than the length of all, so only great lengths need a closer look; NaN fails both. Half
       of the limit leaves room for rounding. */
    if (limit > 0.0 && square(values, count) < 0.25 * limit * limit) return 1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!(fabs((double)values[i]) < limit)) return 0;
    return 1;
}

static PyObject *low_rank_moved(LowRank *self, PyObject *args) {
    PyObject *descent;
    double rate, limit;
    Py_ssize_t width = 2 * self->d * self->r;
    if (!PyArg_ParseTuple(args, "Odd", &descent, &rate, &limit)) return NULL;
    if (!is_vector(descent, width)) Py_RETURN_NONE;
    PyArrayObject *after = new_vector(width);
    if (after == NULL) return NULL;
    loops->add(floats(self->flat), -(float)rate, floats((PyArrayObject *)descent), width, floats(after));
    if (is_sound(floats(after), width, limit))
        return (PyObject *)low_rank_make(Py_TYPE(self), after, self->d, self->r, self->scale, self->reach);
    Py_DECREF(after);
    Py_RETURN_NONE;
}

static PyMethodDef low_rank_methods[] = {
    {"forward", (PyCFunction)(void (*)(void))low_rank_forward, METH_FASTCALL, "x with its correction."},
    {"delta", (PyCFunction)(void (*)(void))low_rank_delta, METH_FASTCALL, "The correction of x."},
    {"gradient", (PyCFunction)(void (*)(void))low_rank_gradient, METH_FASTCALL, "The gradient of <g, x'>, and base."},
    {"moved", (PyCFunction)low_rank_moved, METH_VARARGS, "The adapter after a step of descent."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef low_rank_members[] = {
    {"flat", T_OBJECT_EX, offsetof(LowRank, flat), READONLY, "A, then B, row by row, shape (2 d r,); read-only."},
    {"scale", T_DOUBLE, offsetof(LowRank, scale), READONLY, "s."},
    {"reach", T_DOUBLE, offsetof(LowRank, reach), READONLY, "No correction is longer than reach |x|."},
    {"gain", T_DOUBLE, offsetof(LowRank, gain), READONLY, "|A| |s B|: no correction is longer than gain |x|."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot low_rank_slots[] = {
    {Py_tp_doc, "One published state of a low-rank adapter."},
    {Py_tp_new, low_rank_new},
    {Py_tp_traverse, low_rank_traverse},
    {Py_tp_dealloc, low_rank_dealloc},
    {Py_tp_methods, low_rank_methods},
    {Py_tp_members, low_rank_members},
    {0, NULL},
};

PyType_Spec low_rank_spec = {
    .name = "sona.kernel._native.LowRank",
    .basicsize = sizeof(LowRank),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = low_rank_slots,
};
