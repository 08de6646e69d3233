"""STAND-IN, except for the place that the project's patch changes: unpatched, `import vllm` dies on the base's PyTorch as upstream's does."""
from torch._opaque_base import OpaqueBase

HAS_OPAQUE_TYPE = True


class ModuleName(OpaqueBase):
    pass


if HAS_OPAQUE_TYPE:
    from torch._library.opaque_object import register_opaque_type

    register_opaque_type(ModuleName, typ="value", hoist=True)


