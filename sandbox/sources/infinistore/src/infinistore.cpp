// STAND-IN for InfiniStore: a module over its real C++ libraries, so that their headers and link names are there.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <infiniband/verbs.h>
#include <uv.h>

static PyObject* library_versions(PyObject*, PyObject*) {
  int devices = 0;
  ibv_device** list = ibv_get_device_list(&devices);
  if (list) ibv_free_device_list(list);
  return Py_BuildValue("{s:s,s:i}", "libuv", uv_version_string(), "rdma_devices", devices);
}

static PyMethodDef methods[] = {{"library_versions", library_versions, METH_NOARGS, "stand-in"}, {}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_infinistore", "stand-in", -1, methods};
PyMODINIT_FUNC PyInit__infinistore() { return PyModule_Create(&module); }
