/* The compiled kernel as a module. What it does in numpy stands in reference.py; both answer to the same calls. */
#define SONA_KERNEL_MODULE
#include "kernel.h"

static PyObject *select_level(PyObject *module, PyObject *name) {
    const char *level = name == Py_None ? NULL : PyUnicode_AsUTF8(name);
    if (level == NULL && name != Py_None) return NULL;
    int found = loops_select(level);
    if (found && PyModule_AddStringConstant(module, "LEVEL", loops_level) < 0) return NULL;
    return PyBool_FromLong(found);
}

static PyMethodDef module_methods[] = {
    {"select", select_level, METH_O, "Use this instruction set, the best when None; False when it is not there."},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL) return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

static int module_exec(PyObject *module) {
    if (PyArray_ImportNumPyAPI() < 0) return -1;
    loops_select(NULL);
    PyMethodDef *methods[] = {vector_methods, search_methods, record_methods, gather_methods, sequence_methods};
    for (size_t file = 0; file < sizeof methods / sizeof *methods; file++)
        if (PyModule_AddFunctions(module, methods[file]) < 0) return -1;
    if (add_type(module, &low_rank_spec) < 0 || add_type(module, &maker_spec) < 0) return -1;
    return PyModule_AddStringConstant(module, "LEVEL", loops_level);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    /* True without the interpreter's lock because nothing here is changed once others can see it: a LowRank and a
       maker are written while they are made, a result before it is returned, and `loops` at import and by `select`,
       which swaps one pointer among loops of the same bits. Arrays and lists are their callers': `touched`, which counts
       in a list, may there miss one of two accesses at the same instant, as Python would. */
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sona.kernel._native",
    .m_doc = "The arithmetic of the hot paths, compiled.",
    .m_size = 0,
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module_def); }
