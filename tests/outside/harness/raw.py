"""Raw sockets: what a client library would hide or refuse to send."""

import re
import socket
import ssl
from dataclasses import dataclass, field

PATIENCE = 15.0
"""Seconds without a byte after which a read fails the test."""


class Cut(Exception):
    """The peer ended before the message did."""


@dataclass
class Reply:
    """One answer as it stood on the wire."""

    status: int
    head: bytes
    headers: list[tuple[str, str]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        """The header's first value."""
        return next(iter(self.all(name)), None)


class Wire:
    """A client's connection. Reads are by message; writes are whatever bytes the test wants."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None):
        self.socket = socket.create_connection(address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.settimeout(PATIENCE)
        self.kept = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection."""
        self.socket.close()

    def reset(self):
        """Ends the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data: bytes):
        """Sends all of it; a peer that has already closed is no error here, its answer tells."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def more(self) -> bool:
        """Reads once more; False at the end of the stream."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.kept += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`."""
        while (at := self.kept.find(mark)) < 0:
            if not self.more():
                raise Cut(f"the end came before {mark!r}, after {self.kept[-200:]!r}")
        return self.take(at + len(mark))

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self.kept) < count:
            if not self.more():
                raise Cut(f"the end came after {len(self.kept)} of {count} bytes")
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    def rest(self) -> bytes:
        """Everything until the peer closes."""
        while self.more():
            pass
        taken, self.kept = self.kept, b""
        return taken

    def head(self) -> Reply:
        """The next head that is final, or 101."""
        interim = []
        while True:
            head = self.until(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            match = re.fullmatch(r"HTTP/1\.[01] (\d{3})(?: (.*))?", lines[0])
            assert match, f"not a status line: {lines[0]!r}"
            status = int(match[1])
            pairs = [line.split(":", 1) for line in lines[1:] if line]
            headers = [(name.lower(), value.strip()) for name, value in pairs]
            if 100 <= status < 200 and status != 101:
                interim.append(status)
                continue
            return Reply(status, head, headers, interim=interim)

    def reply(self, method: str = "GET") -> Reply:
        """The next whole answer, read by its own framing; Cut when it ends early."""
        reply = self.head()
        if method == "HEAD" or reply.status in (101, 204, 304):
            return reply
        if reply.get("transfer-encoding") == "chunked":
            reply.body = b"".join(self.chunks())
        elif (length := reply.get("content-length")) is not None:
            reply.body = self.take(int(length))
        else:
            reply.body = self.rest()
        return reply

    def chunks(self):
        """The chunks of a body as they stood, to the last one and its trailers."""
        while True:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                while self.until(b"\r\n") != b"\r\n":
                    pass
                return
            yield self.take(size)
            assert self.take(2) == b"\r\n"

    def replies(self) -> list[Reply]:
        """Every answer until the peer closes: the last request must have asked for that."""
        found = []
        while True:
            if not self.kept and not self.more():
                return found
            found.append(self.reply())


def ask(address: tuple[str, int], data: bytes, method: str = "GET") -> Reply:
    """One connection, these bytes, one answer."""
    with Wire(address) as wire:
        wire.send(data)
        return wire.reply(method)


def request(line: str, *headers: str, body: bytes = b"", host: str | None = "gateway.test") -> bytes:
    """A request's bytes: the line without its version, then header lines as they are."""
    lines = [f"{line} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += headers
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
