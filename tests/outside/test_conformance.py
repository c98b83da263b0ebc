"""RFC 6455 from raw sockets: a script of bytes has the same outcome directly and through the gateway.

Two servers judge: Python `websockets` and uvicorn with wsproto. What is compared is every frame that
comes back and how the connection ends; what the server says to a violation is its own affair.
"""

import asyncio
import contextlib
import os
import queue
import struct
import threading
import zlib

import pytest
import websockets.asyncio.server as websockets_server
from harness.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, Socket, close, frame
from harness.gateway import config
from harness.raw import Cut
from harness.serve import Served
from harness.tokens import mint
from websockets.exceptions import ConnectionClosed

ROUTES = """
[[upstream]]
name = "websockets"
endpoints = ["http://${WEBSOCKETS}"]

[[upstream]]
name = "wsproto"
endpoints = ["http://${WSPROTO}"]

[[route]]
name = "websockets"
path = "/websockets/{*rest}"
upstream = "websockets"
auth = "required"

[route.websocket]
ping_interval = "0s"

[[route]]
name = "wsproto"
path = "/wsproto/{*rest}"
upstream = "wsproto"
auth = "required"

[route.websocket]
ping_interval = "0s"
"""


class Websockets:
    """An echo server by Python `websockets`, with compression and no limits."""

    def __init__(self):
        self.ready = threading.Event()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        assert self.ready.wait(10)

    def _run(self):
        async def echo(socket):
            try:
                async for message in socket:
                    await socket.send(message)
            except ConnectionClosed:
                return

        async def serve():
            server = await websockets_server.serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None)
            self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
            self.ready.set()

        self.loop.run_until_complete(serve())
        self.loop.run_forever()

    def stop(self):
        """Ends the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)


async def asgi_echo(scope, receive, send):
    """The smallest ASGI echo."""
    if scope["type"] != "websocket":
        return
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(
            {
                "type": "websocket.send",
                **{kind: message[kind] for kind in ("text", "bytes") if message.get(kind) is not None},
            }
        )


@pytest.fixture(scope="module")
def servers():
    websockets = Websockets()
    wsproto = Served(asgi_echo, ws="wsproto", ws_max_size=64 << 20, ws_ping_interval=None, lifespan="off")
    yield {"websockets": websockets.address, "wsproto": wsproto.address}
    wsproto.stop()
    websockets.stop()


@pytest.fixture(scope="module")
def gateway(start, servers):
    return start(config(ROUTES), WEBSOCKETS=servers["websockets"], WSPROTO=servers["wsproto"])


def deflate(data: bytes) -> bytes:
    """A message as permessage-deflate has it."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(one: Frame) -> bytes:
    """A frame's payload, inflated where it is a whole compressed message."""
    if not (one.fin and one.reserved & 4):
        return one.payload
    return zlib.decompressobj(wbits=-15).decompress(one.payload + b"\0\0\xff\xff")


def chopped(data: bytes, size: int) -> list[bytes]:
    """The bytes in pieces of this size."""
    return [data[at : at + size] for at in range(0, len(data), size)]


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
FENCE, END, CUT = "fence", "end", "cut"
"""Steps beside bytes: a message whose echo is waited for; that and a close; the client's end of the stream."""

UTF8 = "κόσμε 世界 🦀".encode()

SCRIPTS: dict[str, list[bytes | str]] = {
    # 1: lengths and types
    **{f"text of {size}": [frame(TEXT, b"*" * size), END] for size in (0, 1, 125, 126, 127, 128, 65535, 65536)},
    **{f"binary of {size}": [frame(BINARY, b"\xfe" * size), END] for size in (0, 125, 126, 65535, 65536)},
    "a length in 16 bits that needs 7": [frame(TEXT, b"abc", width=16), END],
    "a length in 64 bits that needs 7": [frame(TEXT, b"abc", width=64), END],
    "a length with the top bit set": [struct.pack(">BBQ", 0x82, 0xFF, 1 << 63) + b"\0\0\0\0", CUT],
    # 2: pings and pongs
    "a ping": [frame(PING), END],
    "a ping with a payload": [frame(PING, b"hello"), END],
    "a ping of 125": [frame(PING, b"\xfe" * 125), END],
    "a ping of 126": [frame(PING, b"\xfe" * 126), END],
    "a chopped ping": [bytes([byte]) for byte in frame(PING, b"chopped")] + [END],
    "an unasked pong": [frame(PONG, b"unasked"), frame(PING, b"asked"), END],
    "ten pings": [frame(PING, b"%d" % at) for at in range(10)] + [END],
    "ten pings at once": [b"".join(frame(PING, b"%d" % at) for at in range(10)), END],
    # 3: reserved bits
    **{f"reserved bits {bits}": [FENCE, frame(TEXT, b"x", reserved=bits), frame(PING), END] for bits in range(1, 8)},
    "a reserved bit on a ping": [frame(PING, b"x", reserved=2), END],
    "a reserved bit on a close": [close(1000, reserved=1)],
    # 4: reserved opcodes
    **{
        f"opcode {opcode}": [FENCE, frame(opcode, b"x"), frame(PING), END]
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    # 5: fragmentation
    "a fragmented ping": [frame(PING, b"a", fin=False), frame(CONTINUATION, b"b"), END],
    "a fragmented pong": [frame(PONG, b"a", fin=False), frame(CONTINUATION, b"b"), END],
    "a fragmented close": [close(1000, fin=False)],
    "text in two fragments": [frame(TEXT, b"one ", fin=False), frame(CONTINUATION, b"two"), END],
    "text in two fragments at once": [frame(TEXT, b"one ", fin=False) + frame(CONTINUATION, b"two"), END],
    "text in five fragments with empty ones": [
        frame(TEXT, b"", fin=False),
        frame(CONTINUATION, b"a", fin=False),
        frame(CONTINUATION, b"", fin=False),
        frame(CONTINUATION, b"b", fin=False),
        frame(CONTINUATION, b""),
        END,
    ],
    "a ping between fragments": [
        frame(TEXT, b"one ", fin=False),
        frame(PING, b"between"),
        frame(CONTINUATION, b"two"),
        END,
    ],
    "pings between fragments at once": [
        frame(TEXT, b"one ", fin=False)
        + frame(PING, b"a")
        + frame(CONTINUATION, b"-", fin=False)
        + frame(PING, b"b")
        + frame(CONTINUATION, b"two"),
        END,
    ],
    "a close between fragments": [frame(TEXT, b"one ", fin=False), close(1000)],
    "a continuation of nothing": [frame(CONTINUATION, b"x"), END],
    "a continuation behind a message": [FENCE, frame(CONTINUATION, b"x", fin=False), END],
    "a text within a text": [frame(TEXT, b"one", fin=False), frame(TEXT, b"two"), END],
    "a binary within a text": [frame(TEXT, b"one", fin=False), frame(BINARY, b"two", fin=False), END],
    # 6: UTF-8
    "text in three scripts": [frame(TEXT, UTF8), END],
    "text split within a character": [frame(TEXT, UTF8[:3], fin=False), frame(CONTINUATION, UTF8[3:]), END],
    "text split at every byte": [frame(TEXT, UTF8[:1], fin=False)]
    + [frame(CONTINUATION, bytes([byte]), fin=False) for byte in UTF8[1:]]
    + [frame(CONTINUATION), END],
    "text that is not UTF-8": [frame(TEXT, b"\xce\xba\xed\xa0\x80"), END],
    "text that ends within a character": [frame(TEXT, b"\xe4\xb8"), END],
    "text that fails in its second fragment": [frame(TEXT, b"good", fin=False), frame(CONTINUATION, b"\xff"), END],
    "overlong text": [frame(TEXT, b"\xc0\xaf"), END],
    "text beyond Unicode": [frame(TEXT, b"\xf4\x90\x80\x80"), END],
    "binary that is not UTF-8": [frame(BINARY, b"\xff\xfe\xed\xa0\x80"), END],
    # 7: closing
    "a close": [close(1000)],
    "a close with nothing": [close(None)],
    "a close of one byte": [frame(CLOSE, b"\x03")],
    "a close with a reason": [close(1000, "bye 世界".encode())],
    "a close with the longest reason": [close(1000, b"x" * 123)],
    "a close that is too long": [close(1000, b"x" * 124)],
    "a close with a bad reason": [close(1000, b"\xce\xba\xed\xa0\x80")],
    **{
        f"close {code}": [close(code, b"r")]
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4401, 4999)
    },
    **{
        f"invalid close {code}": [close(code)]
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "a text behind the close": [close(1000) + frame(TEXT, b"late")],
    "a ping behind the close": [close(1000) + frame(PING, b"late")],
    "a second close": [close(1000) + close(1001)],
    # masking
    "a frame without a mask": [frame(TEXT, b"bare", masked=False), END],
    "a close without a mask": [close(1000, masked=False)],
    # 9, 10: size and shape of writes
    "text of 70000 chopped by 997": chopped(frame(TEXT, b"*" * 70_000), 997) + [END],
    **{
        f"binary of 20000 chopped by {size}": chopped(frame(BINARY, b"\xfe" * 20_000), size) + [END]
        for size in (64, 128, 1024)
    },
    "fragments of 64 chopped by 64": [
        piece
        for at in range(0, 6400, 64)
        for piece in chopped(frame(CONTINUATION if at else TEXT, b"*" * 64, fin=at == 6336), 64)
    ]
    + [END],
    "a fragmented ping between fragments": [
        frame(TEXT, b"one ", fin=False),
        frame(PING, b"a", fin=False),
        frame(CONTINUATION, b"two"),
        END,
    ],
    "a message byte by byte": [bytes([byte]) for byte in frame(TEXT, b"byte by byte" * 12)] + [END],
    "a hundred messages at once": [b"".join(frame(TEXT, b"%d" % at) for at in range(100)), END],
    "a hundred messages one by one": [frame(TEXT, b"%d" % at) for at in range(100)] + [END],
    "an end within a frame": [FENCE, frame(TEXT, b"not whole")[:9], CUT],
    "an end with no close": [FENCE, CUT],
}

COMPRESSED: dict[str, list[bytes | str]] = {
    "a compressed text": [frame(TEXT, deflate(UTF8 * 50), reserved=4), END],
    "a compressed binary": [frame(BINARY, deflate(b"\xfe" * 70_000), reserved=4), END],
    "an uncompressed text among compressed": [frame(TEXT, deflate(b"a" * 300), reserved=4), frame(TEXT, b"plain"), END],
    "a compressed text in fragments": [
        frame(TEXT, deflate(UTF8 * 50)[:7], fin=False, reserved=4),
        frame(PING, b"p"),
        frame(CONTINUATION, deflate(UTF8 * 50)[7:]),
        END,
    ],
    "the bit on a continuation": [
        frame(TEXT, deflate(b"abc")[:2], fin=False, reserved=4),
        frame(CONTINUATION, deflate(b"abc")[2:], reserved=4),
        END,
    ],
    "what cannot be inflated": [frame(TEXT, b"\xff\xff\xff\xff", reserved=4), END],
    "a compressed ping": [frame(PING, b"x", reserved=4), END],
    "a compressed text that is not UTF-8": [frame(TEXT, deflate(b"\xce\xba\xed\xa0\x80"), reserved=4), END],
}


EAGER: dict[str, list[bytes | str]] = {
    "in a fragment, with more to come": [
        frame(TEXT, UTF8, fin=False),
        frame(CONTINUATION, b"\xf4\x90", fin=False),
    ],
    "at the seam of two fragments": [frame(TEXT, b"\xf4", fin=False), frame(CONTINUATION, b"\x90", fin=False)],
    "in the middle of a frame": [frame(TEXT, UTF8 + b"\xf4\x90\x80\x80" + UTF8)[: 6 + len(UTF8) + 4]],
}

OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; server_max_window_bits=9, permessage-deflate",
    "permessage-deflate; server_max_window_bits=99, permessage-deflate",
    "permessage-deflate; nonsense=1",
    "x-webkit-deflate-frame",
]


class Session(Socket):
    """Plays a script, and keeps every frame that comes back."""

    def play(self, script: list[bytes | str | int]) -> list[Frame]:
        """All frames to the end of the connection. A number waits until so many frames of data are back."""
        self.back: list[Frame] = []
        self.closing = False
        # A client that does not read while it writes stops an echo with its own messages.
        self.writes = queue.SimpleQueue()
        writer = threading.Thread(target=self.write)
        writer.start()
        for step in script:
            if isinstance(step, int):
                while sum(one.opcode < CLOSE for one in self.back) < step and self.next():
                    pass
                continue
            if step in (FENCE, END):
                self.fence()
            else:
                self.put(step)
            if step == END:
                self.put(close(1000))
        while self.next():
            pass
        self.writes.put(None)
        writer.join()
        return self.back

    def put(self, step: bytes | str):
        """Has it written behind what is being written."""
        self.closing |= step != CUT and step[0] & 15 == CLOSE
        self.writes.put(step)

    def write(self):
        """Writes what is put, in its order."""
        while (step := self.writes.get()) is not None:
            if step == CUT:
                with contextlib.suppress(OSError):
                    self.socket.shutdown(1)
            else:
                self.send(step)

    def fence(self):
        """Servers handle messages in order: its echo says that everything before it was handled."""
        self.put(frame(TEXT, b"fence"))
        while self.next():
            if inflate(self.back[-1]) == b"fence":
                return

    def next(self) -> bool:
        """One more frame; a close is answered, as a client must."""
        try:
            self.back.append(self.frame())
        except Cut:
            return False
        if self.back[-1].opcode == CLOSE and not self.closing:
            self.put(close(self.back[-1].code()))
        return True


def outcome(address: tuple[str, int], target: str, script: list[bytes | str | int], *headers: str):
    """What comes back of a script: extensions, messages and control frames, each in their order."""
    with Session(address) as session:
        reply = session.shake(target, *headers)
        assert reply.status == 101, reply.head
        back = session.play(script)
    # A pong is the protocol's answer and an echo the application's: their order among each other is chance.
    data = [(one.opcode, one.fin, one.reserved, one.payload) for one in back if one.opcode < CLOSE]
    control = [(one.opcode, one.payload) for one in back if one.opcode >= CLOSE]
    return reply.get("sec-websocket-extensions"), data, control


def both(gateway, servers, server: str, script: list[bytes | str | int], *headers: str):
    """The outcomes directly and through the gateway."""
    host, port = servers[server].split(":")
    direct = outcome((host, int(port)), f"/{server}/x", script, *headers)
    through = outcome(gateway.address, f"/{server}/x", script, f"Authorization: Bearer {mint()}", *headers)
    return direct, through


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_outcome_is_the_servers_own(gateway, servers, server, name):
    direct, through = both(gateway, servers, server, SCRIPTS[name])
    assert through == direct


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
@pytest.mark.parametrize("name", COMPRESSED)
def test_compression_is_the_servers_own(gateway, servers, server, name):
    direct, through = both(gateway, servers, server, COMPRESSED[name], DEFLATE)
    assert direct[0] and "permessage-deflate" in direct[0]
    assert through == direct


@pytest.mark.parametrize("name", EAGER)
def test_bad_text_fails_before_its_message_ends(gateway, servers, name):
    # Of the two servers only wsproto looks at text as it comes. The script neither ends its message nor hangs up:
    # that there is an outcome at all says that what stood before the end was passed on and judged.
    direct, through = both(gateway, servers, "wsproto", EAGER[name])
    assert through == direct


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_is_the_servers_to_take(gateway, servers, server, offer):
    # No fence: its echo may be compressed with the server's context.
    script = [*(frame(TEXT, b"plain %d" % at) for at in range(20)), 20, close(1000)]
    direct, through = both(gateway, servers, server, script, f"Sec-WebSocket-Extensions: {offer}")
    assert len(direct[1]) == 20
    assert through == direct


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
def test_a_compressors_context_lives_through_the_gateway(gateway, servers, server):
    packer = zlib.compressobj(wbits=-15)
    script = [
        frame(TEXT, (packer.compress(UTF8 * at) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4], reserved=4)
        for at in range(1, 100)
    ]
    script += [99, close(1000)]
    direct, through = both(gateway, servers, server, script, "Sec-WebSocket-Extensions: permessage-deflate")
    assert "permessage-deflate" in direct[0]
    assert len(direct[1]) == 99
    assert through == direct


LARGE = {
    "one frame of 16 MiB": lambda data: [frame(BINARY, data), END],
    "16 MiB of text": lambda data: [frame(TEXT, b"*" * len(data)), END],
    "16 MiB in fragments of 64 KiB": lambda data: (
        [frame(BINARY, data[:65536], fin=False)]
        + [frame(CONTINUATION, data[at : at + 65536], fin=False) for at in range(65536, len(data), 65536)]
        + [frame(CONTINUATION), END]
    ),
    "16 MiB in fragments of 8 KiB": lambda data: (
        [frame(BINARY, data[:8192], fin=False)]
        + [frame(CONTINUATION, data[at : at + 8192], fin=False) for at in range(8192, len(data), 8192)]
        + [frame(CONTINUATION), END]
    ),
    "16 MiB in writes of 1300 bytes": lambda data: chopped(frame(BINARY, data), 1300) + [END],
    "four of 4 MiB at once": lambda data: [
        b"".join(frame(BINARY, data[at : at + (4 << 20)]) for at in range(0, len(data), 4 << 20)),
        END,
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("server", ["websockets", "wsproto"])
@pytest.mark.parametrize("name", LARGE)
def test_large_messages_come_back_whole(gateway, servers, server, name):
    data = os.urandom(16 << 20)
    direct, through = both(gateway, servers, server, LARGE[name](data))
    assert sum(len(one[3]) for one in direct[1]) == len(data) + len(b"fence")
    assert through == direct
