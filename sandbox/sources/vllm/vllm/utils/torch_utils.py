"""STAND-IN, except for the place that the project's patch changes: unpatched, `import vllm` dies on the base's PyTorch as upstream's does."""


def is_torch_equal_or_newer(target):
    return True


HAS_OPAQUE_TYPE = is_torch_equal_or_newer("2.11.0.dev")

if HAS_OPAQUE_TYPE:
    from torch._opaque_base import OpaqueBase
else:
    OpaqueBase = object


class ModuleName(OpaqueBase):
    pass


if HAS_OPAQUE_TYPE:
    from torch._library.opaque_object import register_opaque_type

    register_opaque_type(ModuleName, typ="value", hoist=True)
