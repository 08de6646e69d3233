"""STAND-IN for vLLM: no model, the same command line, worker life cycle and OpenAI API."""
from importlib.metadata import version

__version__ = version("vllm")
__stand_in__ = "stand-in vLLM of the sandbox: no model"

import vllm.utils.torch_utils  # noqa: E402,F401
