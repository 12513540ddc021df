/* The bounds of a running sum over a grid of rates: what chance costs at each, and where their mixture crosses. */
#include "kernel.h"

#include <math.h>

#define SMALL 1e-4 /* below it h is taken to be h(SMALL) */
#define NEWTON_STEPS 60
#define MOST_RATES 256

static int is_doubles(PyObject *value, npy_intp size) {
    return is_plain(value, 1, NPY_FLOAT64) && PyArray_DIM((PyArrayObject *)value, 0) == size;
}

static double *doubles(PyObject *value) { return (double *)PyArray_DATA((PyArrayObject *)value); }

/* h(u) = (-log(1 - u) - u) / u^2 */
static double sharpness(double u) {
    if (u < SMALL) u = SMALL;
    return (-log1p(-u) - u) / (u * u);
}

/* Adds h(rate below) (rate residual)^2 to the first row of costs (2, r), and the same of above to the second. */
static PyObject *charge(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *costs, *rates;
    double residual, reach[2];
    if (!PyArg_ParseTuple(args, "OOddd", &costs, &rates, &residual, &reach[0], &reach[1])) return NULL;
    if (!is_plain(costs, 2, NPY_FLOAT64) || !is_plain(rates, 1, NPY_FLOAT64)) Py_RETURN_NONE;
    npy_intp count = PyArray_DIM((PyArrayObject *)rates, 0);
    if (PyArray_DIM((PyArrayObject *)costs, 0) != 2 || PyArray_DIM((PyArrayObject *)costs, 1) != count ||
        !PyArray_ISWRITEABLE((PyArrayObject *)costs) || shares_memory((PyArrayObject *)costs, (PyArrayObject *)rates))
        Py_RETURN_NONE;
    for (int side = 0; side < 2; side++)
        for (npy_intp k = 0; k < count; k++) {
            double rate = doubles(rates)[k];
            doubles(costs)[side * count + k] += sharpness(rate * reach[side]) * (rate * rate * (residual * residual));
        }
    return Py_NewRef(costs);
}

/* The s at which sum_k w_k exp(rate_k s - cost_k) reaches exp(goal), by Newton's method from the right. */
static double crossing(const double *log_weights, const double *rates, const double *costs, npy_intp count,
                       double goal) {
    double terms[MOST_RATES], s = INFINITY;
    for (npy_intp k = 0; k < count; k++) s = fmin(s, (goal - log_weights[k] + costs[k]) / rates[k]);
    for (int turn = 0; turn < NEWTON_STEPS; turn++) {
        double top = -INFINITY, mass = 0.0, slope = 0.0;
        for (npy_intp k = 0; k < count; k++) {
            terms[k] = log_weights[k] + rates[k] * s - costs[k];
            top = fmax(top, terms[k]);
        }
        for (npy_intp k = 0; k < count; k++) {
            double term = exp(terms[k] - top);
            mass += term;
            slope += term * rates[k];
        }
        double step = (top + log(mass) - goal) * mass / slope;
        s -= step;
        if (step <= 1e-12 * (1.0 + s)) break;
    }
    return s;
}

static PyObject *deviation(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *log_weights, *rates, *costs;
    double goal;
    if (!PyArg_ParseTuple(args, "OOOd", &log_weights, &rates, &costs, &goal)) return NULL;
    if (!is_plain(rates, 1, NPY_FLOAT64)) Py_RETURN_NONE;
    npy_intp count = PyArray_DIM((PyArrayObject *)rates, 0);
    if (count < 1 || count > MOST_RATES || !is_doubles(log_weights, count) || !is_doubles(costs, count))
        Py_RETURN_NONE;
    return PyFloat_FromDouble(crossing(doubles(log_weights), doubles(rates), doubles(costs), count, goal));
}

PyMethodDef sequence_methods[] = {
    {"charge", charge, METH_VARARGS, "Add what chance costs at each rate to the costs of a running sum."},
    {"deviation", deviation, METH_VARARGS, "Where the mixture over the rates crosses a level."},
    {NULL, NULL, 0, NULL},
};
