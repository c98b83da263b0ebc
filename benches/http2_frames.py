#!/usr/bin/env python3
"""HTTP/2 (RFC 9113) as far as benches need it, on python3 alone: one side of a connection, and event streams that stay
silent, of which one process holds more than it may open files.

    benches/http2_frames.py serve 9000           an upstream that begins an event stream for each request and says nothing
    benches/http2_frames.py hold 9100 20000      opens so many through a gateway, says "ready", ends them at a line of input
"""
import asyncio
import sys

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Http2(asyncio.Protocol):
    """One side of a connection. Heads are literals (RFC 7541, 6.2.2), and those that come are not read."""

    preface = PREFACE
    """What the other side begins with; nothing where that is the server."""

    def connection_made(self, transport):
        self.transport, self.read = transport, b""
        if not self.preface:
            transport.write(PREFACE)
        self.frame(SETTINGS, 0, 0)

    def frame(self, kind, flags, stream, payload=b""):
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.transport.write(head + payload)

    def data_received(self, data):
        self.read += data
        if self.preface:
            if len(self.read) < len(self.preface):
                return
            self.read, self.preface = self.read[len(self.preface) :], b""
        at = 0
        while len(self.read) >= at + 9 and len(self.read) >= (end := at + 9 + int.from_bytes(self.read[at : at + 3], "big")):
            kind, flags, stream = self.read[at + 3], self.read[at + 4], int.from_bytes(self.read[at + 5 : at + 9], "big")
            payload, at = self.read[at + 9 : end], end
            if kind == SETTINGS and not flags & ACK:
                self.frame(SETTINGS, ACK, 0)
                self.settled()
            elif kind == PING and not flags & ACK:
                self.frame(PING, ACK, 0, payload)
            else:
                self.received(kind, flags, stream, payload)
        self.read = self.read[at:]

    def settled(self):
        """The other side has said what it can take."""

    def received(self, kind, flags, stream, payload):
        """Another frame has come."""


def literal(name, value):
    """A field of a head."""

    def text(octets):
        # An integer with a prefix of seven bits (RFC 7541, 5.1).
        size, prefix = len(octets), b""
        if size >= 127:
            prefix, size, rest = b"\x7f", 0, size - 127
            while rest >= 128:
                prefix += bytes([rest % 128 + 128])
                rest //= 128
            return prefix + bytes([rest]) + octets
        return bytes([size]) + octets

    return b"\0" + text(name.encode()) + text(value.encode())


def head(**fields):
    """A head; `_name` stands for `:name`."""
    named = ((name.replace("_", ":" if name[0] == "_" else "-", 1), value) for name, value in fields.items())
    return b"".join(literal(name, value) for name, value in named)


class Silent(Http2):
    """Answers each request with the head of an event stream."""

    HEAD = head(_status="200", content_type="text/event-stream")

    def received(self, kind, flags, stream, payload):
        if kind == HEADERS:
            self.frame(HEADERS, END_HEADERS, stream, self.HEAD)


class Holder(Http2):
    """Asks for so many streams over one connection."""

    preface = b""
    HEAD = head(_method="GET", _scheme="http", _authority="bench", _path="/silent", accept="text/event-stream")

    def __init__(self, count, opened):
        self.count, self.opened, self.asked = count, opened, False

    def settled(self):
        if not self.asked:
            self.asked = True
            for at in range(self.count):
                self.frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, self.HEAD)

    def received(self, kind, flags, stream, payload):
        if kind == HEADERS and not flags & END_STREAM:
            self.opened(1)
        elif kind in (RESET, GOAWAY) or flags & END_STREAM and kind in (DATA, HEADERS):
            sys.exit(f"a stream was ended: frame {kind} on {stream}")


async def serve(port):
    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def hold(port, count):
    loop = asyncio.get_running_loop()
    left, all_open = count, asyncio.Event()

    def opened(some):
        nonlocal left
        left -= some
        if left == 0:
            all_open.set()

    for at in range(0, count, STREAMS):
        part = min(STREAMS, count - at)
        await loop.create_connection(lambda: Holder(part, opened), "127.0.0.1", port)
    await all_open.wait()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)


STREAMS = 100
"""On each connection."""


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    asyncio.run({"serve": serve, "hold": hold}[what](*map(int, numbers)))
