/* maker: instances of a slotted class out of values that were checked already, without its __init__.
   Of some slots: a copy of the instance it is given first, with the values in the last of them. */
#include "kernel.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *type;
    Py_ssize_t count;    /* slots */
    Py_ssize_t copied;   /* the first so many of them come from an instance, the others are values */
    Py_ssize_t *offsets; /* of the slots, in the order of the values */
} Maker;

static inline PyObject **slot(PyObject *instance, Py_ssize_t offset) {
    return (PyObject **)((char *)instance + offset);
}

static PyObject *maker_call(PyObject *callable, PyObject *const *values, size_t nargsf, PyObject *names) {
    Maker *self = (Maker *)callable;
    Py_ssize_t expected = self->count - self->copied + (self->copied > 0);
    if (PyVectorcall_NARGS(nargsf) != expected || (names != NULL && PyTuple_GET_SIZE(names) != 0)) {
        PyErr_Format(PyExc_TypeError, "%s: expected %zd values", self->type->tp_name, expected);
        return NULL;
    }
    if (self->copied > 0 && Py_TYPE(values[0]) != self->type) {
        PyErr_Format(PyExc_TypeError, "expected a %s, got %R", self->type->tp_name, Py_TYPE(values[0]));
        return NULL;
    }
    PyObject *made = self->type->tp_alloc(self->type, 0);
    if (made == NULL) return NULL;
    for (Py_ssize_t i = 0; i < self->copied; i++)
        *slot(made, self->offsets[i]) = Py_XNewRef(*slot(values[0], self->offsets[i]));
    values += self->copied > 0;
    for (Py_ssize_t i = self->copied; i < self->count; i++)
        *slot(made, self->offsets[i]) = Py_NewRef(values[i - self->copied]);
    return made;
}

/* Offset of a slot, or -1 with an error. */
static Py_ssize_t slot_offset(PyTypeObject *type, PyObject *name) {
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    if (found == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
    PyErr_Clear();
    Py_ssize_t offset = -1;
    if (found != NULL && Py_TYPE(found) == &PyMemberDescr_Type && PyType_IsSubtype(type, PyDescr_TYPE(found))) {
        PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        if (member->type == T_OBJECT_EX) offset = member->offset;
    }
    Py_XDECREF(found);
    if (offset < 0) PyErr_Format(PyExc_TypeError, "%s.%U is no slot", type->tp_name, name);
    return offset;
}

static PyObject *maker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyTypeObject *made;
    PyObject *names;
    Py_ssize_t copied = 0;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "maker takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!O!|n", &PyType_Type, &made, &PyTuple_Type, &names, &copied)) return NULL;
    if (made->tp_new != PyBaseObject_Type.tp_new) { /* what it would set up beside the slots stays undone here */
        PyErr_Format(PyExc_TypeError, "maker: %s is made by a __new__ of its own", made->tp_name);
        return NULL;
    }
    if (copied < 0 || copied > PyTuple_GET_SIZE(names)) {
        PyErr_SetString(PyExc_ValueError, "maker: expected to copy no more than there is");
        return NULL;
    }
    Maker *self = (Maker *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->type = (PyTypeObject *)Py_NewRef(made);
    self->count = PyTuple_GET_SIZE(names);
    self->copied = copied;
    self->offsets = PyMem_Calloc((size_t)self->count + 1, sizeof(Py_ssize_t));
    self->vectorcall = maker_call;
    if (self->offsets == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < self->count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        self->offsets[i] = PyUnicode_Check(name) ? slot_offset(made, name) : -1;
        for (Py_ssize_t j = 0; j < i; j++)
            if (self->offsets[j] == self->offsets[i]) self->offsets[i] = -1; /* one value would be lost */
        if (self->offsets[i] < 0) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "maker: expected names, each once");
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static int maker_traverse(Maker *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->type);
    return 0;
}

/* No tp_clear: a cycle goes through the made type, which clears itself, and a maker never lacks its type. */
static void maker_dealloc(Maker *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->type);
    PyMem_Free(self->offsets);
    type->tp_free(self);
    Py_DECREF(type);
}

/* A new reference to an item of a list that others may change meanwhile; NULL with an error. */
static PyObject *item(PyObject *list, Py_ssize_t place) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyList_GetItemRef(list, place);
#else
    return Py_XNewRef(PyList_GetItem(list, place));
#endif
}

/* What is found again is one access richer: makers of its parts, and where it is kept. */
typedef struct {
    Maker *pattern, *match, *record; /* pattern: all but the last two slots, latest access and count, are copied */
    PyObject *records, *accesses, *now;
    int counts;
} Touch;

/* The access after `before`, a pair of count and time, or NULL with an error. */
static PyObject *access_after(PyObject *before, PyObject *now) {
    if (!PyTuple_CheckExact(before) || PyTuple_GET_SIZE(before) != 2) {
        PyErr_SetString(PyExc_TypeError, "touched: expected pairs of a count and a time");
        return NULL;
    }
    Py_ssize_t count = PyLong_AsSsize_t(PyTuple_GET_ITEM(before, 0));
    int later = count == -1 && PyErr_Occurred() ? -1 : PyObject_RichCompareBool(now, PyTuple_GET_ITEM(before, 1), Py_GT);
    if (later < 0) return NULL;
    PyObject *after = PyTuple_New(2), *more = PyLong_FromSsize_t(count + 1);
    if (after == NULL || more == NULL) {
        Py_XDECREF(after);
        Py_XDECREF(more);
        return NULL;
    }
    PyTuple_SET_ITEM(after, 0, more);
    PyTuple_SET_ITEM(after, 1, Py_NewRef(later ? now : PyTuple_GET_ITEM(before, 1)));
    return after;
}

/* The match of a record, its pattern with the access `after`, and the pattern's id; NULL with an error. */
static PyObject *match_of(const Touch *touch, PyObject *record, PyObject *after, PyObject *cosine, PyObject **id) {
    if (Py_TYPE(record) != touch->record->type) {
        PyErr_Format(PyExc_TypeError, "touched: expected records, got %R", Py_TYPE(record));
        return NULL;
    }
    PyObject *before = *slot(record, touch->record->offsets[0]);
    PyObject *confidence = *slot(record, touch->record->offsets[touch->record->count - 1]);
    if (before == NULL || confidence == NULL) {
        PyErr_SetString(PyExc_TypeError, "touched: expected records with all their fields");
        return NULL;
    }
    PyObject *changed[3] = {before, PyTuple_GET_ITEM(after, 1), PyTuple_GET_ITEM(after, 0)};
    PyObject *pattern = maker_call((PyObject *)touch->pattern, changed, 3, NULL);
    if (pattern == NULL) return NULL;
    PyObject *parts[3] = {pattern, cosine, confidence};
    PyObject *match = maker_call((PyObject *)touch->match, parts, 3, NULL);
    Py_DECREF(pattern);
    *id = match == NULL ? NULL : Py_XNewRef(*slot(before, touch->pattern->offsets[0]));
    if (*id != NULL || match == NULL) return match;
    PyErr_SetString(PyExc_TypeError, "touched: expected patterns with an id");
    Py_DECREF(match);
    return NULL;
}

static PyObject *touch_one(const Touch *touch, PyObject *row, PyObject *cosine, PyObject **id) {
    Py_ssize_t place = PyLong_AsSsize_t(row);
    if (place == -1 && PyErr_Occurred()) return NULL;
    PyObject *record = item(touch->records, place), *match = NULL, *after = NULL;
    PyObject *before = record == NULL ? NULL : item(touch->accesses, place);
    if (before != NULL) after = access_after(before, touch->now);
    if (after != NULL) match = match_of(touch, record, after, cosine, id);
    if (match != NULL && touch->counts && PyList_SetItem(touch->accesses, place, Py_NewRef(after)) < 0) Py_CLEAR(match);
    Py_XDECREF(after);
    Py_XDECREF(before);
    Py_XDECREF(record);
    return match;
}

static PyObject *touched(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    int fits = given == 9;
    for (Py_ssize_t i = 0; fits && i < 7; i++)
        fits = i < 3 ? Py_TYPE(args[i])->tp_dealloc == (destructor)maker_dealloc : PyList_CheckExact(args[i]);
    if (fits) fits = ((Maker *)args[0])->copied > 0 && ((Maker *)args[1])->copied == 0 && ((Maker *)args[2])->count > 0;
    if (!fits || PyList_GET_SIZE(args[5]) != PyList_GET_SIZE(args[6])) {
        PyErr_SetString(PyExc_TypeError, "touched: expected three makers, four lists, a time and whether it counts");
        return NULL;
    }
    Touch touch = {(Maker *)args[0], (Maker *)args[1], (Maker *)args[2], args[3], args[4], args[7], args[8] == Py_True};
    Py_ssize_t count = PyList_GET_SIZE(args[5]);
    PyObject *matches = PyList_New(count), *ids = PyTuple_New(count);
    for (Py_ssize_t i = 0; matches != NULL && ids != NULL && i < count; i++) {
        PyObject *id = NULL, *row = item(args[5], i), *cosine = row == NULL ? NULL : item(args[6], i);
        PyObject *match = cosine == NULL ? NULL : touch_one(&touch, row, cosine, &id);
        Py_XDECREF(row);
        Py_XDECREF(cosine);
        PyList_SET_ITEM(matches, i, match);
        PyTuple_SET_ITEM(ids, i, id);
        if (match == NULL) Py_CLEAR(matches);
    }
    if (matches != NULL && ids != NULL) return Py_BuildValue("NN", matches, ids);
    Py_XDECREF(matches);
    Py_XDECREF(ids);
    return NULL;
}

PyMethodDef record_methods[] = {
    {"touched", (PyCFunction)(void (*)(void))touched, METH_FASTCALL,
     "Matches of rows with one more access each, and the ids of their patterns."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef maker_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Maker, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot maker_slots[] = {
    {Py_tp_doc, "Makes instances of a slotted class out of checked values, without its __init__."},
    {Py_tp_new, maker_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, maker_traverse},
    {Py_tp_dealloc, maker_dealloc},
    {Py_tp_members, maker_members},
    {0, NULL},
};

PyType_Spec maker_spec = {
    .name = "sona.kernel._native.maker",
    .basicsize = sizeof(Maker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = maker_slots,
};
