"""Raw HTTP/1.1 requests: the caller sets the Host header, and no other header is added."""

import dataclasses
import http.client
import json
import socket


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict = dataclasses.field(default_factory=dict)  # names in lower case

    def error(self) -> dict:
        """The `error` of a JSON error body."""
        return json.loads(self.body)["error"]

    def error_code(self) -> str:
        """Its `code`."""
        return self.error()["code"]


def request(
    port: int,
    method: str,
    path: str,
    host: str | None = None,
    headers: dict | None = None,
    body: bytes | None = None,
    timeout: float = 5,
) -> Answer:
    """One request on a connection of its own; `host` defaults to where it goes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"127.0.0.1:{port}" if host is None else host)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, answer.read(), headers)
    finally:
        connection.close()


def get(port: int, path: str) -> Answer:
    return request(port, "GET", path)


def send_raw(port: int, sent: bytes, timeout: float = 15) -> socket.socket:
    """A connection on which these bytes were sent; nothing is read."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.sendall(sent)
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    read = b""
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return read
        if not part:
            return read
        read += part
