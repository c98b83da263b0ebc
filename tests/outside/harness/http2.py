"""HTTP/2 by prior knowledge with the `h2` state machine, its own checks switched off: it sends what it is told."""

import socket

import h2.config
import h2.connection
import h2.events
import h2.settings

from .raw import PATIENCE


class Http2:
    """One connection. What became of a stream is its status, "reset" or "closed"."""

    def __init__(self, address: tuple[str, int]):
        self.socket = socket.create_connection(address, PATIENCE)
        settings = h2.config.H2Configuration(
            client_side=True,
            header_encoding="latin-1",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.machine = h2.connection.H2Connection(settings)
        self.machine.initiate_connection()
        self.heads: dict[int, dict[str, str]] = {}
        self.hints: dict[int, list[dict[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: dict[int, str] = {}
        self.closed = False
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        """Sends what the machine has ready."""
        try:
            self.socket.sendall(self.machine.data_to_send())
        except OSError:
            self.closed = True

    def send(
        self, headers: list[tuple[str, str]], body: bytes | None = None, trailers: list[tuple[str, str]] | None = None
    ) -> int:
        """Opens a stream with these headers, byte for byte; without a body it ends at once."""
        stream = self.machine.get_next_available_stream_id()
        self.machine.send_headers(stream, headers, end_stream=body is None and trailers is None)
        if body is not None:
            self.machine.send_data(stream, body, end_stream=trailers is None)
        if trailers is not None:
            self.machine.send_headers(stream, trailers, end_stream=True)
        self.flush()
        return stream

    def step(self):
        """Reads once and takes in what came."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.machine.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event):
        """Keeps what an event tells."""
        match event:
            case h2.events.ResponseReceived():
                self.heads[event.stream_id] = dict(event.headers)
            case h2.events.InformationalResponseReceived():
                self.hints.setdefault(event.stream_id, []).append(dict(event.headers))
            case h2.events.DataReceived():
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended[event.stream_id] = "ended"
            case h2.events.StreamReset():
                self.ended[event.stream_id] = "reset"
            case h2.events.ConnectionTerminated():
                self.closed = True

    def outcome(self, stream: int) -> int | str:
        """What became of a stream."""
        while stream not in self.ended and not self.closed:
            self.step()
        if stream in self.heads:
            return int(self.heads[stream][":status"])
        return self.ended.get(stream, "closed")

    def settings(self) -> dict:
        """The peer's settings, once they are in."""
        while not self.machine.remote_settings.get(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS):
            self.step()
        return dict(self.machine.remote_settings)


def head(
    path: str = "/api/x", method: str = "GET", *more: tuple[str, str], authority: str = "gateway.test"
) -> list[tuple[str, str]]:
    """An ordinary head and more headers."""
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority), *more]
