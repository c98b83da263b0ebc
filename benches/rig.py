"""What `benches/instructions` and `benches/scaling` stand on: the upstream, the gateway, the load.

Needs Python 3.11 or later, the load tool beside this tree (or at $BENCH) with its ./install-peers run into
$BENCH_WORK, and a release build. Makes its own tokens. Says SKIPPED where something is missing.
"""
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
BENCH = pathlib.Path(os.environ.get("BENCH", TOP / ".." / "shared" / "bench"))
WORK = pathlib.Path(os.environ.get("BENCH_WORK", pathlib.Path(tempfile.gettempdir()) / "gateway-bench"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
TICK = os.sysconf("SC_CLK_TCK")
CPUS = sorted(os.sched_getaffinity(0))
PROXY_CPU, LOAD_CPU = CPUS[0], CPUS[-1]
SECRET = "vJ3kQ7fT2XmL9rZs4WnY8bHc6JpDg1Ra"
ISSUER = "https://project.example/auth/v1"


def program(name):
    path = shutil.which(name, path=f"{WORK / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if not path:
        print(f"SKIPPED: no {name}; the load tool's ./install-peers puts it into {WORK / 'bin'}")
        sys.exit(0)
    return path


def gateway_binary():
    given = os.environ.get("PORTCULLIS")
    if not given:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=TOP, check=True)
    return given or str(TARGET / "release" / "portcullis")


def allow_sockets():
    """As many as the system lets this user have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        hard = max(hard, 100_000)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ------------------------------------------------------------------ tokens


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def mint(number, valid=True):
    """A token like those of the load tool; `number` makes it another user's."""
    now, user = int(time.time()), f"00000000-0000-4000-8000-{number:012d}"
    email = f"user-{number}@mail.example"
    claims = {
        "iss": ISSUER, "sub": user, "aud": "authenticated", "exp": now + 7 * 86400, "iat": now,
        "email": email, "phone": "", "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email": email, "email_verified": True, "phone_verified": False, "sub": user},
        "role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": now}],
        "session_id": user, "is_anonymous": False,
    }
    header = {"alg": "HS256", "typ": "JWT", "kid": "bench-key-1"}
    compact = {"separators": (",", ":")}
    body = b64(json.dumps(header, **compact).encode()) + b"." + b64(json.dumps(claims, **compact).encode())
    secret = SECRET if valid else SECRET[::-1]
    return (body + b"." + b64(hmac.digest(secret.encode(), body, hashlib.sha256))).decode()


def token_file(count, valid=True):
    """A file of so many tokens, one a line. Made anew, because they end."""
    path = WORK / "run" / f"scaling-{'good' if valid else 'bad'}-{count}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{mint(number, valid)}\n" for number in range(count)))
    return path


# ------------------------------------------------------------------ the gateway's configuration


def routes(count, auth):
    """`count` routes, of which the last is the one that is asked for."""
    others = (
        f'[[route]]\nname = "r{n}"\npath = "/api/v{n % 50}/things{n}/{{id}}"\nupstream = "app"\nauth = "{auth}"\n'
        for n in range(count - 1)
    )
    return "".join(others) + f'[[route]]\nname = "all"\npath = "/{{*rest}}"\nupstream = "app"\nauth = "{auth}"\n'


def configuration(port, upstream, *, auth="public", route_count=1, workers=1, access=False, silent=None):
    """With `silent`, an upstream of HTTP/2 on that port is behind `/silent`."""
    issuer = (
        f'[[issuer]]\nname = "bench"\niss = "{ISSUER}"\naudience = ["authenticated"]\n'
        f'algorithms = ["HS256"]\nsecret = "{SECRET}"\n'
    )
    return (
        f'[server]\nlisten = ["127.0.0.1:{port}"]\nworkers = {workers}\nwatch = false\n'
        f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n'
        f'[log]\nlevel = "error"\naccess = {str(access).lower()}\naudit = false\n'
        '[[limits.class]]\nname = "all"\nrate = 1000000\ndaily = 1000000000\nstreams = 1000000\n'
        f"{issuer if auth != 'public' else ''}"
        f'[[upstream]]\nname = "app"\nendpoints = ["http://127.0.0.1:{upstream}"]\npool_max_idle = 512\n'
        f"{routes(route_count, auth)}"
        f"{silent_route(silent) if silent else ''}"
    )


def silent_route(port):
    # Heartbeats are work of their own, and come for all streams at once that were opened at once.
    sparing = '[route.sse]\nheartbeat = "10m"\n'
    return (
        f'{sparing}[[upstream]]\nname = "silent"\nendpoints = ["http://127.0.0.1:{port}"]\nprotocol = "http2"\n'
        f'[[route]]\nname = "silent"\npath = "/silent"\nupstream = "silent"\nauth = "public"\n{sparing}'
    )


# ------------------------------------------------------------------ processes


def spawn(words, cpus, **more):
    def prepare():
        os.sched_setaffinity(0, cpus)

    return subprocess.Popen(list(map(str, words)), preexec_fn=prepare, process_group=0, **more)


def stop(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def upstream():
    port = free_port()
    process = spawn([program("loadgen"), "upstream", "--port", port], {LOAD_CPU})
    try:
        yield port
    finally:
        stop(process)


def await_port(port, process, patience=120):
    """Until somebody listens there."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.01)
    raise RuntimeError(f"nobody listens on {port}")


class Gateway:
    """A gateway of this configuration, started with `words` before its own command line."""

    def __init__(self, text, port, *, cpus=None, words=(), out=subprocess.DEVNULL):
        self.port = port
        folder = pathlib.Path(tempfile.mkdtemp(prefix="portcullis-bench-"))
        (folder / "portcullis.toml").write_text(text)
        self.folder = folder
        command = [*words, gateway_binary(), "run", "--config", folder / "portcullis.toml"]
        self.log = open(folder / "log", "w+")
        self.process = spawn(command, cpus or {PROXY_CPU}, stdout=out, stderr=self.log)

    def __enter__(self):
        try:
            await_port(self.port, self.process)
            # Whoever is still building its routes listens already.
            with Client(self.port) as client:
                client.get("/bytes/0")
        except RuntimeError:
            self.log.seek(0)
            print(self.log.read()[-600:], file=sys.stderr)
            raise
        return self

    def __exit__(self, *_):
        stop(self.process)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu_us(self):
        """User and system time so far, of all threads, to the nanosecond: /proc counts in hundredths of a second."""
        # clock_getcpuclockid(3), which Python has for threads only: the kernel's number for "all of this process".
        return time.clock_gettime_ns((~self.process.pid << 3) | 2) / 1000


# ------------------------------------------------------------------ load


def wrk(port, *, tokens="", conns=64, secs=4, cpus=None, rate=0):
    """One run of wrk: its JSON line. With a `rate`, its connections wait between requests so as to reach it."""
    script = BENCH / "tokens.lua"
    if rate:
        # Whole milliseconds at random, so that the connections do not march in step.
        most = 2 * conns / rate * 1000
        paced = WORK / "run" / "paced.lua"
        paced.parent.mkdir(parents=True, exist_ok=True)
        paced.write_text(script.read_text() + f"\nfunction delay() return math.floor(math.random() * {most:.3f} + 0.5) end\n")
        script = paced
    words = [program("wrk"), "-t1", f"-c{conns}", f"-d{secs}s", "--timeout", "10s"]
    words += ["-s", script, f"http://127.0.0.1:{port}/bytes/1024"]
    env = os.environ | {"TOKENS": str(tokens)}
    out = spawn(words, cpus or {LOAD_CPU}, env=env, stdout=subprocess.PIPE, text=True).communicate()[0]
    return json.loads(out.splitlines()[-1])


class Client:
    """One kept-alive connection that asks one thing after the other."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, path, token):
        auth = f"authorization: Bearer {token}\r\n" if token else ""
        head = f"GET {path} HTTP/1.1\r\nhost: bench.test\r\nuser-agent: rig\r\naccept: */*\r\n{auth}\r\n"
        self.socket.sendall(head.encode())

    def get(self, path, token=None):
        """The status of one request."""
        self.send(path, token)
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += self.receive()
        head, _, body = seen.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        left = int(fields.get(b"content-length", 0)) - len(body)
        while left > 0:
            left -= len(self.receive())
        return int(head.split(b" ", 2)[1])

    def events(self, path, count, token=None):
        """Reads so many events of a stream."""
        self.send(path, token)
        seen = 0
        while seen < count:
            seen += self.receive().count(b"event: token")

    def receive(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise RuntimeError("the gateway closed the connection")
        return data
