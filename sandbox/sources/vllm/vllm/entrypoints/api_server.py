"""STAND-IN for vLLM's OpenAI API server, with the standard library alone. Every answer says that it is a stand-in."""
import hmac
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from vllm import __stand_in__, __version__


class Server(ThreadingHTTPServer):
    # A request in flight is finished before the process ends.
    daemon_threads = False
    request_queue_size = 128


def metrics(arguments, state, counters):
    lines = [
        f"# {__stand_in__}",
        "# TYPE vllm:request_success_total counter",
        f'vllm:request_success_total{{model_name="{arguments.model}"}} {counters["answered"]}',
        "# TYPE vllm:num_requests_running gauge",
        f'vllm:num_requests_running{{model_name="{arguments.model}"}} {counters["running"]}',
        "# TYPE stand_in_kv_cache_bytes gauge",
        f"stand_in_kv_cache_bytes {state['kv_cache_bytes']}",
    ]
    if "managed_mem" in sys.modules:
        from managed_mem import account, settings

        for pid, placement, simulated, kind, device, row in account.read(settings.handed().run_dir):
            labels = f'pid="{pid}",placement="{placement}",simulated="{simulated}",kind="{kind}",device="{device}"'
            lines += [f"managed_mem_{name}{{{labels}}} {value}" for name, value in vars(row).items()]
    return "\n".join(lines) + "\n"


def serve_forever(arguments, state, core, environment):
    name = arguments.served_model_name or arguments.model
    counters = {"answered": 0, "running": 0}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An idle connection must not hold up the shutdown.
        timeout = 5

        def log_message(self, *_):
            pass

        def answer(self, body, status=200, kind="application/json"):
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Stand-In", __stand_in__)
            if closing.is_set():
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            self.wfile.write(data)

        def unauthorized(self):
            """As vLLM's AuthenticationMiddleware: what begins with /v1 needs the key, the rest is open."""
            key = os.environ.get("VLLM_API_KEY")
            if not key or not self.path.startswith("/v1") or hmac.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {key}".encode()):
                return False
            self.answer({"error": "Unauthorized"}, 401)
            return True

        def do_GET(self):
            if self.unauthorized():
                return
            if self.path in ("/health", "/ping"):
                self.answer("", 200 if core.is_alive() else 503, "text/plain")
            elif self.path == "/version":
                self.answer({"version": __version__, "stand_in": __stand_in__})
            elif self.path == "/v1/models":
                self.answer({"object": "list", "stand_in": __stand_in__, "data": [{"id": name, "object": "model", "owned_by": "stand-in", "root": arguments.model}]})
            elif self.path == "/metrics":
                self.answer(metrics(arguments, state, counters), kind="text/plain; version=0.0.4")
            else:
                self.answer({"error": {"message": f"{self.path}: not found ({__stand_in__})"}}, 404)

        def do_POST(self):
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.unauthorized():
                return
            if self.path not in ("/v1/completions", "/v1/chat/completions"):
                return self.answer({"error": {"message": f"{self.path}: not found ({__stand_in__})"}}, 404)
            try:
                request = json.loads(raw)
            except ValueError as error:
                return self.answer({"error": {"message": f"{error} ({__stand_in__})"}}, 400)
            if request.get("model", name) != name:
                return self.answer({"error": {"message": f"The model `{request['model']}` does not exist. ({__stand_in__})"}}, 404)
            with lock:
                counters["running"] += 1
            # For tests of shutdown: how long an answer takes.
            time.sleep(min(float(request.get("stand_in_seconds", 0)), 60))
            chat = self.path.endswith("chat/completions")
            asked = request["messages"][-1]["content"] if chat else request.get("prompt", "")
            text = f"[stand-in, no model] {asked}"
            choice = {"index": 0, "finish_reason": "stop"} | ({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
            with lock:
                counters["running"] -= 1
                counters["answered"] += 1
            self.answer({"id": f"stand-in-{counters['answered']}", "object": "chat.completion" if chat else "text_completion", "created": int(time.time()),
                         "model": name, "stand_in": __stand_in__, "choices": [choice], "usage": {"prompt_tokens": len(str(asked).split()), "completion_tokens": len(text.split())}})

    closing = threading.Event()
    server = Server((arguments.host, arguments.port), Handler)
    # The engine's end is the server's end, as in vLLM.
    died = []

    def watch():
        core.join()
        if not closing.is_set():
            died.append(core.exitcode)
            server.shutdown()

    def stop(*_):
        closing.set()
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=watch, daemon=True).start()
    print(f"{__stand_in__}: serving {name} on {arguments.host}:{arguments.port}", flush=True)
    server.serve_forever(poll_interval=0.2)
    server.server_close()  # waits for the answers that are under way
    print(f"{__stand_in__}: stopped", flush=True)
    return 1 if died else 0
