"""An upstream that breaks the rules, one way for each path."""

import queue
import socket
import threading
import time

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

HINTS = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-B\r\nX-B: c\r\n\r\n"
    b"HTTP/1.1 102 Processing\r\n\r\n"
)

ANSWERS = {
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
    "length-list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nokk",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "bad-status-line": b"HELLO 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "bad-status-number": b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-of-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi",
    "bare-cr": b"HTTP/1.1 200 OK\r\nX-Bad: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "nul": b"HTTP/1.1 200 OK\r\nX-Bad: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "no-colon": b"HTTP/1.1 200 OK\r\nX-Bad\r\nContent-Length: 2\r\n\r\nok",
    "huge-header": b"HTTP/1.1 200 OK\r\nX-Huge: " + b"a" * (2 << 20) + b"\r\nContent-Length: 2\r\n\r\nok",
    "close-at-once": b"",
    "half-a-head": b"HTTP/1.1 200 OK\r\nContent-Le",
}
"""Answers that must become 502; the connection is closed behind each."""

CUTS = {
    "cut-in-length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it",
    "cut-in-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\nhalf of it",
    "cut-between-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n",
    "bad-chunk-size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\nzz\r\n",
}
"""Answers whose end is missing; the client must be able to tell."""


class Misbehaving:
    """Serves `…/NAME`; anything unknown gets a proper answer with the connection's number."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.release = threading.Event()
        self.connections = 0
        self.asked: queue.Queue[str] = queue.Queue()
        self.left: queue.Queue[str] = queue.Queue()
        """Names of `silent-until-…` that were asked for, and whose connection has ended."""
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        """Closes the listener, and lets the silent ones go."""
        self.release.set()
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int):
        with connection:
            try:
                while self._one(connection, number):
                    pass
            except OSError:
                pass

    def _one(self, connection: socket.socket, number: int) -> bool:
        raw = b""
        while b"\r\n\r\n" not in raw:
            data = connection.recv(65536)
            if not data:
                return False
            raw += data
        name = raw.split(b" ")[1].decode("latin-1").split("?")[0].rsplit("/", 1)[1]
        if name in ANSWERS or name in CUTS:
            connection.sendall((ANSWERS | CUTS)[name])
            # A FIN behind the last byte, and everything read: a RST would be another fault.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
            return False
        return self._other(connection, name, number)

    def _other(self, connection: socket.socket, name: str, number: int) -> bool:
        if name == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if name == "reset-in-body":
            connection.sendall(CUTS["cut-in-length"])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if name.startswith("silent-until-"):
            self.asked.put(name)
            while connection.recv(65536):
                pass
            self.left.put(name)
            return False
        if name == "silent":
            self.release.wait(60)
            return False
        if name == "silent-in-body":
            connection.sendall(CUTS["cut-in-length"])
            self.release.wait(60)
            return False
        if name == "hints":
            connection.sendall(HINTS + OK)
            return True
        if name == "more-than-said":
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
            )
            return True
        if name == "dribble":
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nslow!":
                connection.sendall(bytes([byte]))
                time.sleep(0.002)
            return True
        body = str(number).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return True
