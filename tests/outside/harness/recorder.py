"""An upstream that keeps the raw bytes of every head it is sent, and holds them against the catalogue's invariants."""

import queue
import re
import socket
import threading
from dataclasses import dataclass

from .raw import PATIENCE

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
IDENTITY = ("x-user-id", "x-user-email", "x-user-role", "x-user-anonymous", "x-session-id", "x-auth-status")


@dataclass
class Seen:
    """One request as the upstream got it."""

    raw: bytes
    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    connection: int = 0

    @property
    def target(self) -> str:
        """The request target."""
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Every value of a header, underscores counted as dashes."""
        return [value for key, value in self.headers if key.lower().replace("_", "-") == name]

    def one(self, name: str) -> str:
        """The value of a header that must be there once."""
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values} in {self.raw!r}"
        return values[0]

    def identity(self) -> dict[str, list[str]]:
        """The identity headers that are there."""
        return {name: self.all(name) for name in IDENTITY if self.all(name)}


def well_formed(raw: bytes) -> list[str]:
    """What is wrong with a forwarded head (invariant 3); empty when all is well."""
    wrong = []
    if re.search(rb"\r(?!\n)|(?<!\r)\n|\0", raw):
        wrong.append("a bare CR or LF, or a NUL")
    lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if not re.fullmatch(TOKEN.pattern + rb" [\x21-\x7e]+ HTTP/1\.1", lines[0]):
        wrong.append(f"request line {lines[0]!r}")
    names = []
    for line in lines[1:]:
        name, colon, _ = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            wrong.append(f"header line {line!r}")
        names.append(name.lower().replace(b"_", b"-"))
    if names.count(b"host") != 1:
        wrong.append(f"{names.count(b'host')} Host")
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        wrong.append("more than one of Content-Length and Transfer-Encoding")
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            wrong.append(f"{line!r}")
        if name.lower() == b"content-length" and not re.fullmatch(rb"\d{1,19}", value.strip()):
            wrong.append(f"{line!r}")
    for name in IDENTITY:
        if names.count(name.encode()) > 1:
            wrong.append(f"{name} more than once")
    return wrong


class Recorder:
    """Answers by path: `…/ws…` is upgraded and echoed raw, `…/status/NNN` gets that status, all else 200 with the target."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.requests: queue.Queue[Seen] = queue.Queue()
        self.every: list[Seen] = []
        self.ended: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        """Closes the listener."""
        self.listener.close()

    def take(self) -> Seen:
        """The next request; fails when none comes."""
        return self.requests.get(timeout=PATIENCE)

    def tunnelled(self, target: str) -> bytes:
        """The bytes behind the head of the upgrade to `target`, once its connection has ended."""
        while True:
            found, data = self.ended.get(timeout=PATIENCE)
            if found == target:
                return data

    def nothing(self) -> bool:
        """Whether no request has come since the last was taken."""
        return self.requests.empty()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int):
        kept = b""
        with connection:
            try:
                while True:
                    while b"\r\n\r\n" not in kept:
                        data = connection.recv(65536)
                        if not data:
                            return
                        kept += data
                    raw, _, kept = kept.partition(b"\r\n\r\n")
                    seen = self._seen(raw + b"\r\n\r\n", number)
                    if seen.all("upgrade"):
                        self._note(seen)
                        self._upgrade(connection, seen, kept)
                        return
                    seen.body, kept = self._body(connection, seen, kept)
                    self._note(seen)
                    connection.sendall(self._answer(seen))
            except OSError:
                return

    def _seen(self, raw: bytes, number: int) -> Seen:
        lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [line.partition(":") for line in lines[1:]]
        return Seen(raw, lines[0], [(name, value.strip()) for name, _, value in pairs], connection=number)

    def _note(self, seen: Seen):
        self.every.append(seen)
        self.requests.put(seen)

    def _body(self, connection: socket.socket, seen: Seen, kept: bytes) -> tuple[bytes, bytes]:
        def need(count: int):
            nonlocal kept
            while len(kept) < count:
                data = connection.recv(65536)
                if not data:
                    raise OSError("cut")
                kept += data

        if seen.all("transfer-encoding"):
            body = b""
            while True:
                while b"\r\n" not in kept:
                    need(len(kept) + 1)
                line, _, kept = kept.partition(b"\r\n")
                size = int(line.split(b";")[0], 16)
                if size == 0:
                    while not kept.startswith(b"\r\n"):
                        while b"\r\n" not in kept:
                            need(len(kept) + 1)
                        _, _, kept = kept.partition(b"\r\n")
                    return body, kept[2:]
                need(size + 2)
                body, kept = body + kept[:size], kept[size + 2 :]
        length = int((seen.all("content-length") or ["0"])[0])
        need(length)
        return kept[:length], kept[length:]

    def _answer(self, seen: Seen) -> bytes:
        found = re.search(r"/status/(\d{3})", seen.target)
        status = found[1] if found else "200"
        body = seen.target.encode("latin-1") + b"\n"
        head = f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        return head if seen.line.startswith("HEAD ") else head + body

    def _upgrade(self, connection: socket.socket, seen: Seen, kept: bytes):
        found = re.search(r"/status/(\d{3})", seen.target)
        if found:
            connection.sendall(f"HTTP/1.1 {found[1]} X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".encode())
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept(seen.one("sec-websocket-key")) + b"\r\n\r\n"
            )
        try:
            while data := connection.recv(65536):
                kept += data
        except OSError:
            pass
        self.ended.put((seen.target, kept))


def accept(key: str) -> bytes:
    """`Sec-WebSocket-Accept` for a key."""
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
