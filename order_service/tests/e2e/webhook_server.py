"""Independent webhook receiver; records requests and does not judge them."""

import collections
import http.server
import pathlib
import ssl
import subprocess
import threading


def certify(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A certificate for `localhost` that signs itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    extensions = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *extensions, *files], check=True, capture_output=True)
    return certificate, key


class WebhookServer(http.server.ThreadingHTTPServer):
    """Answers 503 to the first request of each path; remembers all. `tls`: as `localhost`, with this certificate and key."""

    daemon_threads = True

    def __init__(self, tls: tuple[pathlib.Path, pathlib.Path] | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
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
