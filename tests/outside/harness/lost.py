"""Streams by ticket, and clients that are gone without a word: the network took them, no packet says so."""

import ctypes
import socket
import struct

import httpx

from .gateway import Gateway
from .tokens import bearer

SO_ATTACH_FILTER = 26
NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
"""A filter of sockets that lets nothing through: `ret #0`."""


def ticket(gateway: Gateway, token: str, path: str) -> str:
    """A ticket for a stream of this path."""
    answer = httpx.post(f"{gateway.url}/_portcullis/tickets", json={"path": path}, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    return answer.json()["ticket"]


def vanishing(gateway: Gateway, path: str) -> socket.socket:
    """An event stream that has begun, and whose client's machine acknowledges nothing any more."""
    client = socket.create_connection(gateway.address, timeout=20)
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: {gateway.authority}\r\naccept: text/event-stream\r\n\r\n".encode())
    seen = b""
    while b"data:" not in seen:
        some = client.recv(65536)
        assert some, seen
        seen += some
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(NOTHING)))
    return client
