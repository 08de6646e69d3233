"""Stand-in for `vllm serve MODEL --port PORT ...`: answers every request with the model's name."""

import http.server
import signal
import sys

model, port = sys.argv[1], int(sys.argv[sys.argv.index("--port") + 1])


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"stand-in for {model}\n".encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", port), Answer).serve_forever()
