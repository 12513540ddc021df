/* What a handful of rows say together: sums by name over what neighbours hold, and over where links lead. */
#include "kernel.h"

#define USUAL 512 /* numbers that need no memory of their own */

/* Numbers in the order they first came, each with its place; as many as `room` can be told apart. */
typedef struct {
    npy_int64 *names;  /* by place */
    npy_int32 *places; /* by slot: place + 1, 0 where the slot is free */
    Py_ssize_t size, mask;
    npy_int64 own_names[USUAL];
    npy_int32 own_places[4 * USUAL];
} Roll;

static void roll_free(Roll *roll) {
    if (roll->names != roll->own_names) PyMem_RawFree(roll->names);
    if (roll->places != roll->own_places) PyMem_RawFree(roll->places);
}

static int roll_make(Roll *roll, Py_ssize_t room) {
    Py_ssize_t slots = 4 * USUAL;
    while (slots < 2 * room) slots *= 2;
    roll->size = 0;
    roll->mask = slots - 1;
    roll->names = room <= USUAL ? roll->own_names : PyMem_RawMalloc((size_t)room * sizeof(npy_int64));
    roll->places = slots == 4 * USUAL ? roll->own_places : PyMem_RawMalloc((size_t)slots * sizeof(npy_int32));
    if (roll->names != NULL && roll->places != NULL) {
        memset(roll->places, 0, (size_t)slots * sizeof(npy_int32));
        return 1;
    }
    roll_free(roll);
    PyErr_NoMemory();
    return 0;
}

static Py_ssize_t roll_place(Roll *roll, npy_int64 name) {
    size_t slot = ((size_t)name * 0x9E3779B97F4A7C15u) >> 20;
    for (;; slot++) {
        npy_int32 *place = &roll->places[slot & (size_t)roll->mask];
        if (*place == 0) {
            roll->names[roll->size] = name;
            *place = (npy_int32)++roll->size;
            return roll->size - 1;
        }
        if (roll->names[*place - 1] == name) return *place - 1;
    }
}

static PyObject *roll_names(const Roll *roll) {
    npy_intp size = roll->size;
    PyObject *names = PyArray_SimpleNew(1, &size, NPY_INT64);
    if (names != NULL) memcpy(PyArray_DATA((PyArrayObject *)names), roll->names, (size_t)size * sizeof(npy_int64));
    return names;
}

/* One neighbour: what it names (m,), what those were taken and passed (m, 2), and how much of it counts where. */
typedef struct {
    PyArrayObject *items, *sums;
    Py_ssize_t column;
    double share;
} Voice;

/* 1 when it is one, 0 when its arrays are not plain, -1 with an error. */
static int voice_read(Voice *voice, PyObject *items, PyObject *sums, PyObject *column, PyObject *share,
                      Py_ssize_t bins) {
    if (!is_plain(items, 1, NPY_INT64) || !is_plain(sums, 2, NPY_FLOAT64)) return 0;
    if (!PyLong_Check(column) || !PyFloat_Check(share)) return 0; /* so that reading them runs no code of others */
    voice->items = (PyArrayObject *)items;
    voice->sums = (PyArrayObject *)sums;
    voice->column = PyLong_AsSsize_t(column);
    voice->share = PyFloat_AsDouble(share);
    if (PyErr_Occurred()) return -1;
    return PyArray_DIM(voice->sums, 0) == PyArray_DIM(voice->items, 0) && PyArray_DIM(voice->sums, 1) == 2 &&
           voice->column >= 0 && voice->column < bins;
}

/* The sums of both columns in float64, one after the other, and what they are in float32. */
static PyObject *pooled_of(Roll *roll, const Voice *voices, Py_ssize_t count, Py_ssize_t bins, double *cells) {
    for (Py_ssize_t v = 0; v < count; v++) {
        const npy_int64 *items = (const npy_int64 *)PyArray_DATA(voices[v].items);
        const double *sums = (const double *)PyArray_DATA(voices[v].sums), share = voices[v].share;
        for (npy_intp i = 0; i < PyArray_DIM(voices[v].items, 0); i++) {
            double *cell = cells + 2 * (roll_place(roll, items[i]) * bins + voices[v].column);
            cell[0] += sums[2 * i] * share;
            cell[1] += sums[2 * i + 1] * share;
        }
    }
    npy_intp shape[] = {roll->size, bins};
    PyObject *names = roll_names(roll);
    PyArrayObject *taken = (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    PyArrayObject *passed = (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (names == NULL || taken == NULL || passed == NULL) {
        Py_XDECREF(names);
        Py_XDECREF(taken);
        Py_XDECREF(passed);
        return NULL;
    }
    for (npy_intp i = 0; i < shape[0] * shape[1]; i++) {
        floats(taken)[i] = (float)cells[2 * i];
        floats(passed)[i] = (float)cells[2 * i + 1];
    }
    return Py_BuildValue("NNN", names, taken, passed);
}

static PyObject *pooled(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *items, *sums, *columns, *shares;
    Py_ssize_t bins, room = 0;
    if (!PyArg_ParseTuple(args, "O!O!O!O!n", &PyList_Type, &items, &PyList_Type, &sums, &PyList_Type, &columns,
                          &PyList_Type, &shares, &bins))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(items);
    if (PyList_GET_SIZE(sums) != count || PyList_GET_SIZE(columns) != count || PyList_GET_SIZE(shares) != count ||
        bins < 1)
        Py_RETURN_NONE;
    Voice *voices = PyMem_RawMalloc((size_t)(count + 1) * sizeof(Voice));
    if (voices == NULL) return PyErr_NoMemory();
    int is_read = 1;
    for (Py_ssize_t v = 0; v < count && is_read == 1; v++) {
        is_read = voice_read(&voices[v], PyList_GET_ITEM(items, v), PyList_GET_ITEM(sums, v),
                             PyList_GET_ITEM(columns, v), PyList_GET_ITEM(shares, v), bins);
        if (is_read == 1) room += PyArray_DIM(voices[v].items, 0);
    }
    PyObject *found = NULL;
    if (is_read == 1) {
        Roll roll;
        int is_countable = bins <= PY_SSIZE_T_MAX / 32 / (room + 1);
        double *cells = is_countable ? PyMem_RawCalloc((size_t)(2 * room * bins + 1), sizeof(double)) : NULL;
        if (cells == NULL) {
            PyErr_NoMemory();
        } else if (roll_make(&roll, room)) {
            found = pooled_of(&roll, voices, count, bins, cells);
            roll_free(&roll);
        }
        PyMem_RawFree(cells);
    }
    PyMem_RawFree(voices);
    if (is_read == 0) Py_RETURN_NONE;
    return found;
}

/* Rows of links: row i has the entries starts[i] to starts[i + 1], rows beyond have none. */
typedef struct {
    const npy_int64 *starts;
    const npy_int32 *ends;
    const float *weights; /* by kind, one kind after the other */
    npy_intp rows, entries;
} Rows;

static PyObject *spread_from(const Rows *links, const npy_int64 *rows, const double *active, Py_ssize_t count,
                             Roll *roll, double *sums) {
    for (Py_ssize_t i = 0; i < count; i++) {
        if (rows[i] >= links->rows) continue;
        npy_int64 low = links->starts[rows[i]], high = links->starts[rows[i] + 1];
        double share[2];
        for (int kind = 0; kind < 2; kind++) {
            const float *weights = links->weights + kind * links->entries;
            double total = 0.0;
            for (npy_int64 e = low; e < high; e++) total += weights[e];
            share[kind] = total > 0.0 ? active[kind * count + i] / total : 0.0;
        }
        for (npy_int64 e = low; e < high; e++) {
            double *sum = sums + 2 * roll_place(roll, links->ends[e]);
            sum[0] += links->weights[e] * share[0];
            sum[1] += links->weights[links->entries + e] * share[1];
        }
    }
    npy_intp shape[] = {2, roll->size};
    PyObject *names = roll_names(roll);
    PyArrayObject *amounts = (PyArrayObject *)PyArray_SimpleNew(2, shape, NPY_FLOAT64);
    if (names == NULL || amounts == NULL) {
        Py_XDECREF(names);
        Py_XDECREF(amounts);
        return NULL;
    }
    for (npy_intp i = 0; i < shape[1]; i++)
        for (int kind = 0; kind < 2; kind++)
            ((double *)PyArray_DATA(amounts))[kind * shape[1] + i] = sums[2 * i + kind];
    return Py_BuildValue("NN", names, amounts);
}

static PyObject *spread(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *given_starts, *given_ends, *given_weights, *given_rows, *given_active;
    if (!PyArg_ParseTuple(args, "OOOOO", &given_starts, &given_ends, &given_weights, &given_rows, &given_active))
        return NULL;
    if (!is_plain(given_starts, 1, NPY_INT64) || !is_plain(given_ends, 1, NPY_INT32) ||
        !is_plain(given_weights, 2, NPY_FLOAT32) || !is_plain(given_rows, 1, NPY_INT64) ||
        !is_plain(given_active, 2, NPY_FLOAT64))
        Py_RETURN_NONE;
    PyArrayObject *starts = (PyArrayObject *)given_starts, *weights = (PyArrayObject *)given_weights;
    PyArrayObject *active = (PyArrayObject *)given_active;
    Rows links = {(const npy_int64 *)PyArray_DATA(starts),
                  (const npy_int32 *)PyArray_DATA((PyArrayObject *)given_ends), floats(weights),
                  PyArray_DIM(starts, 0) - 1, PyArray_DIM((PyArrayObject *)given_ends, 0)};
    npy_intp count = PyArray_DIM((PyArrayObject *)given_rows, 0);
    if (links.rows < 0 || PyArray_DIM(weights, 0) != 2 || PyArray_DIM(weights, 1) != links.entries ||
        PyArray_DIM(active, 0) != 2 || PyArray_DIM(active, 1) != count)
        Py_RETURN_NONE;
    const npy_int64 *rows = (const npy_int64 *)PyArray_DATA((PyArrayObject *)given_rows);
    Py_ssize_t room = 0;
    for (npy_intp i = 0; i < count; i++) {
        if (rows[i] < 0) Py_RETURN_NONE;
        if (rows[i] >= links.rows) continue;
        npy_int64 low = links.starts[rows[i]], high = links.starts[rows[i] + 1];
        if (low < 0 || high < low || high > links.entries) Py_RETURN_NONE;
        room += high - low;
    }
    Roll roll;
    double *sums = PyMem_RawCalloc((size_t)(2 * room + 1), sizeof(double));
    if (sums == NULL) return PyErr_NoMemory();
    PyObject *found = NULL;
    if (roll_make(&roll, room)) {
        found = spread_from(&links, rows, (const double *)PyArray_DATA(active), count, &roll, sums);
        roll_free(&roll);
    }
    PyMem_RawFree(sums);
    return found;
}

/* Adds amounts (m,) to scores at rows (m,), in their order; rows outside of the scores are passed over. */
static PyObject *lift(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    (void)module;
    if (given != 3) {
        PyErr_SetString(PyExc_TypeError, "expected scores, rows and amounts");
        return NULL;
    }
    if (!is_plain(args[0], 1, NPY_FLOAT32) || !is_plain(args[1], 1, NPY_INT64)) Py_RETURN_NONE;
    PyArrayObject *scores = (PyArrayObject *)args[0], *rows = (PyArrayObject *)args[1];
    npy_intp n = PyArray_DIM(scores, 0), count = PyArray_DIM(rows, 0);
    if (!is_vector(args[2], count) || !PyArray_ISWRITEABLE(scores)) Py_RETURN_NONE;
    if (shares_memory(scores, rows) || shares_memory(scores, (PyArrayObject *)args[2])) Py_RETURN_NONE;
    const float *amounts = floats((PyArrayObject *)args[2]);
    const npy_int64 *at = (const npy_int64 *)PyArray_DATA(rows);
    Py_ssize_t lifted = 0;
    for (npy_intp i = 0; i < count; i++) {
        if (at[i] < 0 || at[i] >= n) continue;
        floats(scores)[at[i]] += amounts[i];
        lifted++;
    }
    return PyLong_FromSsize_t(lifted);
}

PyMethodDef gather_methods[] = {
    {"lift", (PyCFunction)(void (*)(void))lift, METH_FASTCALL, "Add amounts to scores at some rows."},
    {"pooled", pooled, METH_VARARGS, "What neighbours hold of each item, by column."},
    {"spread", spread, METH_VARARGS, "Where the links of active rows lead, and how much of each arrives."},
    {NULL, NULL, 0, NULL},
};
