"""WebSocket frames by hand, for what a library would not send."""

import os
import struct
from dataclasses import dataclass

from .raw import Cut, Reply, Wire, request

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclass
class Frame:
    """One frame, unmasked."""

    opcode: int
    payload: bytes
    fin: bool = True
    reserved: int = 0

    def code(self) -> int | None:
        """The code of a close frame."""
        return struct.unpack(">H", self.payload[:2])[0] if len(self.payload) >= 2 else None

    def reason(self) -> str:
        """The reason of a close frame."""
        return self.payload[2:].decode()


def frame(
    opcode: int, payload: bytes = b"", fin: bool = True, reserved: int = 0, masked: bool = True, width: int = 0
) -> bytes:
    """A frame's bytes; `width` 16 or 64 forces the long forms of the length."""
    first = (0x80 if fin else 0) | (reserved << 4) | opcode
    mask = 0x80 if masked else 0
    size = len(payload)
    if width == 64 or size > 0xFFFF:
        head = struct.pack(">BBQ", first, mask | 127, size)
    elif width == 16 or size > 125:
        head = struct.pack(">BBH", first, mask | 126, size)
    else:
        head = struct.pack(">BB", first, mask | size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + apply(key, payload)


def apply(key: bytes, payload: bytes) -> bytes:
    """The payload under a mask."""
    whole = int.from_bytes(payload, "little") ^ int.from_bytes(
        (key * (len(payload) // 4 + 1))[: len(payload)], "little"
    )
    return whole.to_bytes(len(payload), "little")


def close(code: int | None = 1000, reason: bytes = b"", **how) -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason, **how)


def handshake(target: str, *headers: str, host: str = "gateway.test", key: str = KEY) -> bytes:
    """A handshake's bytes, as a browser would send it but for the headers given."""
    return request(
        f"GET {target}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
        host=host,
    )


class Socket(Wire):
    """A raw WebSocket connection."""

    def shake(self, target: str, *headers: str, **more) -> Reply:
        """Sends the handshake and reads its answer (its body only when it was refused)."""
        self.send(handshake(target, *headers, **more))
        return self.reply()

    def frame(self) -> Frame:
        """The next frame; Cut at the end."""
        first, second = self.take(2)
        size = second & 127
        if size == 126:
            size = struct.unpack(">H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.take(8))[0]
        assert not second & 0x80, "a server's frame is not masked"
        return Frame(first & 15, self.take(size), bool(first & 0x80), first >> 4 & 7)

    def frames(self) -> list[Frame]:
        """Every frame until the connection ends."""
        found = []
        try:
            while True:
                found.append(self.frame())
        except Cut:
            return found
