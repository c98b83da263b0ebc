"""Real Redis servers that tests stop, restart, pause and cut off, and a wire to one that can be cut."""

import contextlib
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

START = 20.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """A server on a port of this machine. What it keeps is gone when it ends, unless `options` say otherwise."""

    def __init__(self, folder: Path, *options: str):
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.process = None
        self.up()

    @property
    def url(self) -> str:
        """What `[redis] url` is."""
        return f"redis://127.0.0.1:{self.port}"

    def up(self):
        """Starts it, and waits until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self.options]
        self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START
        while not self.answers():
            assert time.monotonic() < deadline and self.process.poll() is None, "redis-server did not start"
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it says something to a PING, be it that a password is wanted."""
        with contextlib.suppress(OSError):
            return self.call("PING")[:1] in "+-"
        return False

    def call(self, *words: str) -> str:
        """The first line of its answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            wire.sendall(" ".join(words).encode() + b"\r\n")
            return wire.makefile().readline().rstrip("\r\n")

    def down(self):
        """Kills it."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self):
        """Kills it and starts it again on the same port."""
        self.down()
        self.up()

    def pause(self):
        """It stands still; the kernel goes on taking connections in its name."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """The end."""
        self.down()


def secure(folder: Path, certificate: Path, key: Path) -> tuple[Redis, str]:
    """A server that also listens for TLS, and the URL of that."""
    port = free_port()
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    server = Redis(folder, "--tls-port", str(port), "--tls-auth-clients", "no", *files)
    return server, f"rediss://localhost:{port}"


class Watched:
    """A master, a replica of it, and a sentinel that makes the one the other when the master is gone."""

    def __init__(self, folder: Path):
        for name in ("master", "replica", "sentinel"):
            (folder / name).mkdir()
        self.master = Redis(folder / "master", "--repl-diskless-sync-delay", "0")
        self.replica = Redis(folder / "replica", "--replicaof", "127.0.0.1", str(self.master.port))
        settings = folder / "sentinel" / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 5000\n"
        )
        self.sentinel = Redis.__new__(Redis)
        self.sentinel.port = free_port()
        command = ["redis-server", str(settings), "--sentinel", "--port", str(self.sentinel.port), "--bind", "127.0.0.1"]
        self.sentinel.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START
        while "slave0" not in self._masters():
            assert time.monotonic() < deadline, "the sentinel knows no replica"
            time.sleep(0.05)

    def _masters(self) -> str:
        """Whether the sentinel knows the replica, as `slave0`."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.sentinel.port), timeout=5) as wire:
            wire.sendall(b"INFO sentinel\r\n")
            return "slave0" if b"slaves=1" in wire.recv(65536) else ""
        return ""

    def stop(self):
        """The end of all three."""
        for server in (self.sentinel, self.replica, self.master):
            server.down()


class Cluster:
    """Three nodes that share the slots."""

    def __init__(self, folder: Path):
        self.nodes = []
        for number in range(3):
            place = folder / f"node-{number}"
            place.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            self.nodes.append(Redis(place, *options))
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        deadline = time.monotonic() + START
        while not all("ok" in self._state(node) for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster is not whole"
            time.sleep(0.05)

    @staticmethod
    def _state(node: Redis) -> str:
        with socket.create_connection(("127.0.0.1", node.port), timeout=5) as wire:
            wire.sendall(b"CLUSTER INFO\r\n")
            return wire.recv(4096).decode().split("\r\n")[1]

    def stop(self):
        """The end of all."""
        for node in self.nodes:
            node.down()


class Wire:
    """A port that leads to a server, for as long as it is whole. One gateway's way to Redis."""

    def __init__(self, to: Redis):
        self.to = to
        self.whole = threading.Event()
        self.whole.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What `[redis] url` is."""
        return f"redis://127.0.0.1:{self.port}"

    def hold(self):
        """From now on nothing passes, and nobody is told: as where packets are lost."""
        self.whole.clear()

    def mend(self):
        """All passes again, what waited first."""
        self.whole.set()

    def drop(self):
        """Breaks all connections off; new ones can be made."""
        ends, self.ends = self.ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def stop(self):
        """The end."""
        self.mend()
        self.listener.close()
        self.drop()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket):
        self.whole.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.to.port), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        self.ends += [near, far]
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket):
        with contextlib.suppress(OSError):
            while some := one.recv(65536):
                self.whole.wait()
                other.sendall(some)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
