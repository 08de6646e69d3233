"""vLLM's tier for prefixes, in host memory of exactly the size that the budget gives it."""

import contextlib

from . import refuse
from .settings import format_size

_kept = []  # registered memory must not be given back before its process ends


@contextlib.contextmanager
def exactly_pinned(torch):
    """Pinned tensors without PyTorch's rounding up to a power of two, by which a tier of 9 GiB took 16 (bench/runtime/RESULTS.md)."""
    zeros = torch.zeros

    def pinned(*args, pin_memory: bool = False, **kwargs):
        tensor = zeros(*args, **kwargs)
        if pin_memory:
            size = tensor.numel() * tensor.element_size()
            error = int(torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), size, 0))
            if error:
                refuse(f"MANAGED_MEM_PREFIXES: CUDA cannot pin {format_size(size)} of the host (error {error}); accepted: memory that is free; lower it")
            _kept.append(tensor)
        return tensor

    torch.zeros = pinned
    try:
        yield
    finally:
        torch.zeros = zeros
