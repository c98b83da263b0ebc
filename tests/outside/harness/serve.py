"""Runs an ASGI application with uvicorn in a thread, on a port of its own."""

import asyncio
import socket
import threading

import uvicorn
from fastapi import FastAPI, Request


class Served:
    """A running application, `app`; `address` is its `host:port`."""

    def __init__(self, app, **settings):
        self.app = app
        # A request that meets the end of an idle connection is 502, and a slow machine leaves them idle for long.
        settings = {"timeout_keep_alive": 600} | settings
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


def serving(app):
    """The same for a fixture, which yields from this."""
    served = Served(app)
    yield served
    served.stop()


def watched() -> FastAPI:
    """An application whose `seen` holds the path of every request."""
    app = FastAPI()
    app.seen = []

    @app.middleware("http")
    async def see(request: Request, call):
        app.seen.append(request.url.path)
        return await call(request)

    return app
