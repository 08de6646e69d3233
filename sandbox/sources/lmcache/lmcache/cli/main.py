"""STAND-IN for LMCache's command line: `lmcache server` accepts connections, says what it is, and ends on SIGTERM."""
import argparse
import signal
import socketserver
import sys
import threading


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"stand-in LMCache of the sandbox\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


def main():
    parser = argparse.ArgumentParser(prog="lmcache")
    command = parser.add_subparsers(dest="command", required=True).add_parser("server")
    command.add_argument("--host", default="localhost")
    command.add_argument("--port", type=int, default=5555)
    arguments, ignored = parser.parse_known_args()
    print(f"stand-in LMCache server on {arguments.host}:{arguments.port}; not used: {ignored}", flush=True)
    with Server((arguments.host, arguments.port), Handler) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
