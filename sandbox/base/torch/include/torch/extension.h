#pragma once
// STAND-IN for PyTorch's extension header: a module with one function, int -> int, so that a compiled stage has something to import.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <c10/util/Exception.h>
#include <exception>

#define STAND_IN_MODULE(NAME, FUNCTION)                                                             \
  static PyObject* NAME##_call(PyObject*, PyObject* argument) {                                     \
    long value = PyLong_AsLong(argument);                                                           \
    if (value == -1 && PyErr_Occurred()) return nullptr;                                            \
    try {                                                                                           \
      return PyLong_FromLong(FUNCTION(int(value)));                                                 \
    } catch (const std::exception& error) {                                                         \
      PyErr_SetString(PyExc_RuntimeError, error.what());                                            \
      return nullptr;                                                                               \
    }                                                                                               \
  }                                                                                                 \
  static PyMethodDef NAME##_methods[] = {{#FUNCTION, NAME##_call, METH_O, "stand-in"}, {}};         \
  static PyModuleDef NAME##_module = {PyModuleDef_HEAD_INIT, #NAME, "stand-in", -1, NAME##_methods}; \
  PyMODINIT_FUNC PyInit_##NAME() { return PyModule_Create(&NAME##_module); }
