"""Hand-written HTTP/2 of a malicious client: streams that never end, incomplete messages. Answers are not decoded; real
clients check the status codes.
"""

import socket
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_HEADERS, ACK = 4, 1
FIRST_WINDOW = 65_535
LARGEST_FRAME = 16_384


def _literal(name: str, value: str) -> bytes:
    """One header, not indexed and not compressed."""
    assert len(name) < 127 and len(value) < 127
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Http2Connection:
    """One connection; what the server gives and takes of the windows is followed by a thread."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.authority = f"127.0.0.1:{port}"
        self.window, self.windows, self.ended, self.closed = FIRST_WINDOW, {}, set(), False
        self.changed, self._sending = threading.Condition(), threading.Lock()
        self._send(PREFACE + self._frame(SETTINGS, 0, 0, b""))
        threading.Thread(target=self._follow, daemon=True).start()

    def begin(self, path: str, number: int) -> int:
        """Begins the call; `number` counts from 0 on this connection."""
        stream = number * 2 + 1
        head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", self.authority)]
        head += [("content-type", "application/grpc"), ("te", "trailers")]
        self.windows.setdefault(stream, FIRST_WINDOW)
        self._send(self._frame(HEADERS, END_HEADERS, stream, b"".join(_literal(*field) for field in head)))
        return stream

    def send(self, stream: int, data: bytes, timeout: float = 2) -> bool:
        """Sends as the windows allow; false if the stream was ended by the server, or nothing was taken for so long."""
        at = 0
        while at < len(data):
            with self.changed:
                free = lambda: self.closed or stream in self.ended or min(self.window, self.windows[stream]) > 0
                if not self.changed.wait_for(free, timeout) or self.closed or stream in self.ended:
                    return False
                size = min(self.window, self.windows[stream], LARGEST_FRAME, len(data) - at)
                self.window -= size
                self.windows[stream] -= size
            if not self._send(self._frame(DATA, 0, stream, data[at : at + size])):
                return False
            at += size
        return True

    def close(self) -> None:
        self.socket.close()

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def _send(self, data: bytes) -> bool:
        try:
            with self._sending:
                self.socket.sendall(data)
            return True
        except OSError:
            return False

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def _follow(self) -> None:
        try:
            while True:
                head = self._read(9)
                size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream, payload = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, self._read(size)
                self._take(kind, flags, stream, payload)
        except (OSError, ValueError):
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._send(self._frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._send(self._frame(PING, ACK, 0, payload))
        with self.changed:
            if kind == WINDOW_UPDATE:
                grown = int.from_bytes(payload, "big")
                if stream == 0:
                    self.window += grown
                else:
                    self.windows[stream] = self.windows.get(stream, FIRST_WINDOW) + grown
            elif kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & 1):
                self.ended.add(stream)
            self.changed.notify_all()
