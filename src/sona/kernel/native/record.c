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
