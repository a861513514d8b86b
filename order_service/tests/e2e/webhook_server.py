"""A server that gets webhooks, of another make than the platform, and judges nothing by itself."""

import collections
import http.server
import pathlib
import ssl
import threading

CERTIFICATES = pathlib.Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"


class WebhookServer(http.server.ThreadingHTTPServer):
    """Answers 503 to the first request of each path; remembers all. `tls`: as `localhost`, certified by `AUTHORITY`."""

    daemon_threads = True

    def __init__(self, tls: bool = False):
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.place = f"{'localhost' if tls else '127.0.0.1'}:{self.server_port}"
        self.got = collections.defaultdict(list)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A client that hangs up is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        got = self.server.got[self.path]
        got.append((dict(self.headers), body))
        if self.path.startswith("/inside"):
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/secret")
        else:
            self.send_response(503 if len(got) == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
