"""moe_op SOURCE [--without-hoist]: vLLM's operator for layers of experts under torch.compile, on the processor, as SOURCE (a tree of vLLM)
defines and calls it: its functions are taken from the file as they stand, the layers behind them are plain. With --without-hoist,
PyTorch's register_opaque_type lacks that argument, as in the NGC image 26.03. Prints JSON: whether opaque types are used, whether three
layers give what they give uncompiled, and which layers' names are written into the graphs."""
import ast
import json
import os
import sys
from types import ModuleType, SimpleNamespace

import torch
import torch._library.opaque_object as opaque_object

source = sys.argv[1]
if "--without-hoist" in sys.argv:
    registered = opaque_object.register_opaque_type

    def register_opaque_type(cls, *, typ):
        return registered(cls, typ=typ)

    opaque_object.register_opaque_type = register_opaque_type

sys.path.insert(0, source)
from vllm.utils import torch_utils  # noqa: E402

NAMES = ["model.layers.0.experts", "model.layers.1.experts", "model.layers.2.experts"]


def layer(factor):
    runner = SimpleNamespace(use_dp_chunking=False, _sequence_parallel_context=lambda: torch.no_grad(), forward_impl=lambda layer, hidden, *_: hidden * factor)
    return SimpleNamespace(runner=runner, ensure_moe_quant_config_init=lambda: None)


context = SimpleNamespace(all_moe_layers=NAMES, moe_layer_index=0, no_compile_layers={name: layer(2.0 + index) for index, name in enumerate(NAMES)})
wanted = {"get_layer_from_name", "_layer_name_type", "_resolve_layer_name", "_moe_forward", "_moe_forward_fake", "_encode_layer_name"}
file = os.path.join(source, "vllm/model_executor/layers/fused_moe/runner/default_moe_runner.py")
taken = []
for node in ast.walk(ast.parse(open(file).read())):
    # The type of the name is chosen where nothing is type-checked: the branch of the interpreter.
    names = {node.name} if isinstance(node, ast.FunctionDef) else {ast.unparse(target) for target in node.targets} if isinstance(node, ast.Assign) else set()
    if names & wanted:
        taken.append(node)
        wanted -= names
assert not wanted, f"{file}: {wanted}: not found"
# A module of its own, because torch.compile looks a function's globals up by its module.
runner_module = sys.modules["runner_module"] = ModuleType("runner_module")
scope = vars(runner_module)
scope |= {"torch": torch, "HAS_OPAQUE_TYPE": torch_utils.HAS_OPAQUE_TYPE, "ModuleName": torch_utils.ModuleName, "ForwardContext": object,
          "is_forward_context_available": lambda: True, "get_forward_context": lambda: context}
exec(compile(ast.Module(sorted(taken, key=lambda node: node.lineno), []), file, "exec"), scope)
torch_utils.direct_register_custom_op("moe_forward", scope["_moe_forward"], ["hidden_states"], scope["_moe_forward_fake"], dispatch_key="CPU")


class Runner:
    def __init__(self, name):
        self.layer_name = name

    encode = scope["_encode_layer_name"]


runners = [Runner(name) for name in NAMES]


def model(hidden):
    for runner in runners:
        hidden = torch.ops.vllm.moe_forward(hidden + 1, hidden, None, runner.encode())
    return hidden


def run(function):
    context.moe_layer_index = 0
    return function(torch.ones(4, 8))


graphs = []


def backend(graph, inputs):
    graphs.append(graph.print_readable(print_output=False))
    return torch._inductor.compile(graph, inputs)


plain = run(model)
compiled = run(torch.compile(model, backend=backend, fullgraph=True))
print(json.dumps({"opaque": torch_utils.HAS_OPAQUE_TYPE, "same": torch.equal(plain, compiled), "graphs": len(graphs),
                  "named": [name for name in NAMES if any(name in graph for graph in graphs)]}))
