"""Work for a gateway, on python3 alone: an upstream, and callers of each kind that a gateway meets. For `benches/train`:
all of it is answered, how fast does not matter.
"""
import asyncio
import sys

from http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, RESET, Http2, head

WINDOW_UPDATE = 8
# The body that is asked for over HTTP/2.
SIZE2 = 1024
# RFC 6455, 1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def frame(kind, payload, mask=b""):
    """A WebSocket frame (RFC 6455, 5.2) of up to 64 KiB, whole."""
    masked, size = 0x80 if mask else 0, len(payload)
    length = bytes([masked | size]) if size < 126 else bytes([masked | 126]) + size.to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + mask + (masking(payload, mask) if mask else payload)


def masking(payload, mask):
    pattern = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ pattern).to_bytes(len(payload), "big")


def whole_frame(read):
    """The kind, the payload and the end of the first frame of `read`; nothing where more must come."""
    if len(read) < 4:
        return None
    size, at = read[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(read[2:4], "big"), 4
    mask = read[at : at + 4] if read[1] & 0x80 else b""
    at += len(mask)
    payload = read[at : at + size]
    if len(payload) < size:
        return None
    return read[0] & 0xF, masking(payload, mask) if mask else payload, at + size


def field(text, name):
    """The value of a field in the lower-cased head `text`; empty where there is none."""
    at = text.find(b"\r\n" + name + b":")
    return text[at + len(name) + 3 : text.index(b"\r\n", at + 2)].strip() if at >= 0 else b""


class Reader(asyncio.Protocol):
    """One side of a connection of HTTP/1.1."""

    def connection_made(self, transport):
        self.transport, self.read, self.frames = transport, b"", False

    def data_received(self, data):
        self.read += data
        while self.read and (used := self.frame() if self.frames else self.message()):
            self.read = self.read[used:]

    def frame(self):
        found = whole_frame(self.read)
        if found:
            self.framed(*found[:2])
        return found and found[2]

    def message(self):
        """The end of the first message that is whole; it has been told to `came`."""
        at = self.read.find(b"\r\n\r\n") + 4
        if at < 4:
            return None
        text = self.read[: at - 2].lower()
        if field(text, b"transfer-encoding"):
            at = self.read.find(b"\r\n0\r\n\r\n", at) + 7
            if at < 7:
                return None
        else:
            at += int(field(text, b"content-length") or 0)
            if at > len(self.read):
                return None
        self.came(text)
        return at


# ------------------------------------------------------------------ upstreams


class Upstream(Reader):
    """`/bytes/N`, `/events/N` (a stream of so many), `/socket` (echoes)."""

    def came(self, text):
        what, *count = text.split(b" ", 2)[1].strip(b"/").split(b"/")
        if what == b"bytes":
            size = int(count[0])
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))
        elif what == b"events":
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            asyncio.ensure_future(self.events(int(count[0])))
        else:
            self.frames = True
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                                 b"sec-websocket-accept: " + ACCEPT + b"\r\n\r\n")

    def framed(self, kind, payload):
        self.transport.write(frame(kind, payload))

    async def events(self, count):
        for number in range(count):
            event = b'event: token\nid: %d\ndata: {"index":%d,"text":"and then"}\n\n' % (number, number)
            self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
            await asyncio.sleep(0)
        self.transport.write(b"0\r\n\r\n")


class Upstream2(Http2):
    """Over HTTP/2, so many bytes for each request."""

    HEAD = head(_status="200", content_type="image/png", content_length=str(SIZE2))

    def received(self, kind, flags, stream, payload):
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.frame(HEADERS, END_HEADERS, stream, self.HEAD)
            self.frame(DATA, END_STREAM, stream, bytes(SIZE2))


# ------------------------------------------------------------------ callers


class Caller(Reader):
    """Sends one request after the other, until none are left."""

    def __init__(self, requests, done):
        self.requests, self.done = requests, done

    def connection_made(self, transport):
        super().connection_made(transport)
        self.next()

    def next(self):
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
        else:
            self.transport.write(request)

    def came(self, text):
        self.done(int(text.split(b" ", 2)[1]))
        if field(text, b"connection") == b"close":
            self.transport.close()
        else:
            self.next()

    def connection_lost(self, error):
        self.done(None)


class Speaker(Caller):
    """Upgrades, and sends one of the payloads after the other."""

    def next(self):
        self.transport.write(b"GET /socket HTTP/1.1\r\nhost: bench\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                             b"sec-websocket-version: 13\r\nsec-websocket-key: " + KEY + b"\r\n\r\n")

    def came(self, text):
        self.done(int(text.split(b" ", 2)[1]))
        self.frames = True
        self.say()

    def framed(self, kind, payload):
        self.done(200)
        self.say()

    def say(self):
        payload = next(self.requests, None)
        if payload is None:
            self.transport.close()
        else:
            self.transport.write(frame(2, payload, b"mask"))


class Caller2(Http2):
    """Sends heads over HTTP/2, eight at once. No head is read that comes: whoever sends the whole body has status 200."""

    preface = b""

    def __init__(self, heads, done):
        self.heads, self.done, self.asked, self.left = heads, done, 0, {}

    def settled(self):
        if not self.asked:
            for _ in range(8):
                self.next()

    def next(self):
        fields = next(self.heads, None)
        if fields:
            stream, self.asked = 2 * self.asked + 1, self.asked + 1
            self.left[stream] = SIZE2
            self.frame(HEADERS, END_STREAM | END_HEADERS, stream, fields)
        elif not self.left:
            self.transport.close()

    def received(self, kind, flags, stream, payload):
        if kind == DATA and payload:
            self.left[stream] -= len(payload)
            self.frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big"))
        if kind in (DATA, HEADERS, RESET) and (flags & END_STREAM or kind == RESET):
            self.done(500 if self.left.pop(stream) else 200)
            self.next()

    def connection_lost(self, error):
        self.done(None)


async def serve(ports):
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(kind, "127.0.0.1", port, backlog=512) for kind, port in zip((Upstream, Upstream2), ports)]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def call(kind, port, requests, connections, tls=None):
    """So many connections share the requests. How often each status came."""
    loop, over, left, seen = asyncio.get_running_loop(), asyncio.Event(), connections, {}

    def done(status):
        nonlocal left
        if status is None:
            left -= 1
            if not left:
                over.set()
        else:
            seen[status] = seen.get(status, 0) + 1

    requests = iter(requests)
    for _ in range(connections):
        await loop.create_connection(lambda: kind(requests, done), "127.0.0.1", port, ssl=tls)
    await over.wait()
    return seen


if __name__ == "__main__":
    asyncio.run(serve(map(int, sys.argv[1:])))
