"""An upstream that speaks HTTP/2 by prior knowledge, with the `h2` state machine: hints, an answer, trailers."""

import queue
import socket
import threading

import h2.config
import h2.connection
import h2.events

from .raw import PATIENCE


class Http2Upstream:
    """`/hints` answers with a 103 and a 102 before it, `/never` with nothing. `left` has the streams that were reset."""

    def __init__(self):
        self.left: queue.Queue = queue.Queue()
        self.asked: queue.Queue = queue.Queue()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection: socket.socket):
        connection.settimeout(PATIENCE)
        machine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        machine.initiate_connection()
        paths, bodies = {}, {}
        with connection:
            while True:
                connection.sendall(machine.data_to_send())
                data = connection.recv(65536)
                if not data:
                    return
                for event in machine.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        paths[event.stream_id] = dict(event.headers)[":path"]
                        bodies[event.stream_id] = b""
                        self.asked.put(paths[event.stream_id])
                    elif isinstance(event, h2.events.DataReceived):
                        bodies[event.stream_id] += event.data
                        machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamReset):
                        self.left.put((paths[event.stream_id], int(event.error_code)))
                    elif isinstance(event, h2.events.StreamEnded) and paths[event.stream_id].endswith("/hints"):
                        self.answer(machine, event.stream_id, bodies[event.stream_id])

    @staticmethod
    def answer(machine: h2.connection.H2Connection, stream: int, body: bytes):
        machine.send_headers(stream, [(":status", "103"), ("link", "</a.css>; rel=preload")])
        machine.send_headers(stream, [(":status", "102")])
        machine.send_headers(stream, [(":status", "200"), ("trailer", "x-sum")])
        machine.send_data(stream, b"ok " + body)
        machine.send_headers(stream, [("x-sum", "7")], end_stream=True)
