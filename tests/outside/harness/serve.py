"""Runs an ASGI application with uvicorn in a thread, on a port of its own."""

import asyncio
import socket
import threading

import uvicorn


class Served:
    """A running application; `address` is its `host:port`."""

    def __init__(self, app, **settings):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, **settings))
        self.server.install_signal_handlers = lambda: None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.run(self.server.serve(sockets=[self.socket]))

    def stop(self):
        """Ends the server."""
        self.server.should_exit = True
        self.thread.join(10)
