"""STAND-IN for `vllm serve`: one engine process with the worker class that was asked for, and the OpenAI API in front of it."""
import argparse
import importlib
import multiprocessing
import os
import signal
import sys
from types import SimpleNamespace

from vllm import __stand_in__, __version__

# What the stand-in takes of a KV cache at most: it shows where memory lies, not how much a machine has.
KV_CACHE_MOST = 256 << 20
BLOCKS = 64


def engine(arguments, pipe):
    """As EngineCore does: a spawned process that owns the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    module, _, name = arguments.worker_cls.rpartition(".")
    config = SimpleNamespace(
        model_config=SimpleNamespace(model=arguments.model, enable_sleep_mode=False),
        cache_config=SimpleNamespace(kv_cache_memory_bytes=arguments.kv_cache_memory_bytes, gpu_memory_utilization=0.9),
        parallel_config=SimpleNamespace(
            world_size=1, local_world_size=1, tensor_parallel_size=1, disable_custom_all_reduce=True, distributed_executor_backend=None, worker_cls=arguments.worker_cls
        ),
        kv_transfer_config=None,
    )
    worker = getattr(importlib.import_module(module), name)(config)
    worker.init_device()
    worker.load_model()
    kv = min(worker.determine_available_memory(), KV_CACHE_MOST)
    worker.initialize_from_config(SimpleNamespace(bytes=kv, num_blocks=BLOCKS))
    worker.compile_or_warm_up_model()
    pipe.send({"kv_cache_bytes": kv})
    try:
        pipe.recv()
    except EOFError:
        pass


def main():
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("--version", action="version", version=__version__)
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve")
    serve.add_argument("model")
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--stand-in-port", type=int, help="listens there and not where the probes ask")
    serve.add_argument("--served-model-name")
    serve.add_argument("--worker-cls", default="vllm.v1.worker.gpu_worker.Worker")
    serve.add_argument("--kv-cache-memory-bytes", type=int)
    serve.add_argument("--shutdown-timeout", type=int, default=10)
    arguments, ignored = parser.parse_known_args()
    arguments.port = arguments.stand_in_port or arguments.port
    print(f"{__stand_in__}, {__version__}; not used: {ignored}", flush=True)

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    core = context.Process(target=engine, args=(arguments, theirs), name="EngineCore")
    core.start()
    theirs.close()
    try:
        state = ours.recv()
    except EOFError:
        core.join()
        sys.exit(core.exitcode or 1)

    from vllm.entrypoints.api_server import serve_forever

    status = serve_forever(arguments, state, core, os.environ)
    ours.close()
    core.join(arguments.shutdown_timeout)
    sys.exit(status)


if __name__ == "__main__":
    main()
