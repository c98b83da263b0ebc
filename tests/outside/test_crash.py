"""SIGKILL at any moment under load: what was acknowledged holds when the gateway is back, and nothing more is accepted."""

import os
import random
import threading
import time

import httpx
import pytest
from harness.gateway import START, Gateway
from harness.postgres import database

pytestmark = pytest.mark.slow

CONFIG = """
[server]
listen = ["127.0.0.1:0"]
workers = 2
watch = false

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"
level = "warn"

[store]
url = "${STORE}"

[accounts]
issuer = "https://crash.test/auth/v1"
secret = "${ACCOUNTS_SECRET}"
# So that only the rules that know no clock are left.
refresh_reuse = "0s"

[accounts.password]
argon2_memory = "7MiB"
argon2_iterations = 1

[accounts.attempts]
free = 1000
per_address = 0
refreshes_per_address = 0

[api.token]
mount = "/auth"

[api.session]
auth_mount = "/api/auth"
sessions_mount = "/api/sessions"

[[upstream]]
name = "nobody"
endpoints = ["http://127.0.0.1:9"]

[[route]]
name = "all"
path = "/app/{*rest}"
upstream = "nobody"
"""
PASSWORD = "correct horse"
DEVICES = 6
TIMES = int(os.environ.get("OUTSIDE_CRASHES", "1"))
"""How many times as many crashes as usual: 10 takes most of an hour."""
SAMPLE = 2
"""Of each kind that a device looks at again after a crash, besides what it did last."""


class Login:
    """A session of the token API, as its device knows it."""

    def __init__(self, pair: dict):
        self.access = pair["access_token"]
        self.spent: list[str] = []
        self.refresh = pair["refresh_token"]
        self.over = False

    def took(self, pair: dict):
        """The answer of a refresh."""
        if pair["refresh_token"] != self.refresh:
            self.spent.append(self.refresh)
        self.access, self.refresh = pair["access_token"], pair["refresh_token"]


class Device:
    """One client: does this and that until the gateway is gone, and remembers what it was told."""

    def __init__(self, number: int):
        self.dice = random.Random(f"device {number}")
        self.name = f"device{number}"
        self.users: list[str] = []
        self.logins: list[Login] = []
        self.opaque: list[list] = []
        self.fresh: list = []
        self.made = 0
        self.acknowledged = 0

    def use(self, url: str):
        """Works until the connection breaks. What was under way then may or may not have happened."""
        self.fresh = []
        with httpx.Client(base_url=url, timeout=20, verify=False) as self.http:
            while True:
                work = self.dice.choice([self.register, self.log_in, self.rotate, self.rotate, self.log_out, self.converse])
                try:
                    done = work()
                except httpx.TransportError:
                    return
                if done is not None:
                    self.fresh.append(done)
                    self.acknowledged += 1

    def post(self, path: str, expected: int, body: dict | None = None, token: str = "") -> dict:
        """A call that must be answered with this status."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self.http.post(path, json=body, headers=headers)
        assert answer.status_code == expected, (self.name, path, answer.status_code, answer.text)
        return answer.json()

    def status(self, path: str, token: str) -> int:
        """What a token is answered with."""
        return self.http.get(path, headers={"authorization": f"Bearer {token}"}).status_code

    def register(self):
        self.made += 1
        name = f"{self.name}-{self.made}"
        self.post("/auth/register", 201, {"username": name, "email": f"{name}@mail.test", "password": PASSWORD})
        self.users.append(name)
        return name

    def log_in(self):
        if not self.users:
            return None
        login = Login(self.post("/auth/login", 200, {"username": self.dice.choice(self.users), "password": PASSWORD}))
        self.logins.append(login)
        return login

    def live(self) -> Login | None:
        """Some session that goes on."""
        good = [login for login in self.logins if not login.over]
        return self.dice.choice(good) if good else None

    def rotate(self):
        login = self.live()
        if login is None:
            return None
        before = login.refresh
        login.took(self.post("/auth/refresh", 200, {"refresh_token": before}))
        return login

    def log_out(self):
        login = self.live()
        if login is None:
            return None
        # If the answer is lost, nothing is known of this session any more.
        self.logins.remove(login)
        self.post("/auth/logout", 200, token=login.access)
        login.over = True
        self.logins.append(login)
        return login

    def converse(self):
        """An opaque token: got, or ended."""
        good = [entry for entry in self.opaque if entry[1]]
        if good and self.dice.random() < 0.5:
            entry = self.dice.choice(good)
            self.opaque.remove(entry)
            self.post("/api/auth/logout", 200, token=entry[0])
            entry[1] = False
        elif self.users:
            body = {"username": self.dice.choice(self.users), "password": PASSWORD}
            entry = [self.post("/api/auth/login", 200, body)["session"]["token"], True]
        else:
            return None
        self.opaque.append(entry)
        return entry

    def look(self, url: str):
        """Holds what it was told against a gateway that has come back: the last things, and some older ones."""
        known = {id(thing) for thing in [*self.users, *self.logins, *self.opaque]}
        # What was being ended when the gateway was killed is not known any more.
        fresh = [thing for thing in self.fresh if id(thing) in known]

        def some(things: list) -> list:
            return self.dice.sample(things, min(SAMPLE, len(things)))

        with httpx.Client(base_url=url, timeout=20, verify=False) as self.http:
            for thing in [*fresh, *some(self.users), *some(self.logins), *some(self.opaque)]:
                if isinstance(thing, str):
                    self.post("/auth/login", 200, {"username": thing, "password": PASSWORD})
                elif isinstance(thing, list):
                    status = self.status("/api/auth/verify", thing[0])
                    assert status == (200 if thing[1] else 401), (self.name, thing, status)
                elif thing.over:
                    self.ended(thing)
                else:
                    self.goes_on(thing)

    def goes_on(self, login: Login):
        """A session that has not ended."""
        assert self.status("/auth/me", login.access) == 200, self.name
        if login.spent:
            # The last answer might have been lost: its token gives what it gave, or what came after that unheard.
            login.took(self.post("/auth/refresh", 200, {"refresh_token": login.refresh}))
            again = self.post("/auth/refresh", 200, {"refresh_token": login.spent[-1]})
            assert again["refresh_token"] == login.refresh, f"{self.name}: a spent token gave another successor"
        login.took(self.post("/auth/refresh", 200, {"refresh_token": login.refresh}))
        if len(login.spent) > 2 and self.dice.random() < 0.2:
            self.post("/auth/refresh", 401, {"refresh_token": self.dice.choice(login.spent[:-1])})
            login.over = True
            self.ended(login)

    def ended(self, login: Login):
        """A session that is over, by log-out or by theft."""
        assert self.status("/auth/me", login.access) == 401, f"{self.name}: logged out, and let in"
        for token in {login.refresh, *login.spent[-2:]}:
            self.post("/auth/refresh", 401, {"refresh_token": token})


def together(devices: list[Device], work: str, url: str) -> tuple[list[threading.Thread], list[str]]:
    """All devices at once; the list fills with what went wrong."""
    wrong = []

    def run(device: Device):
        try:
            getattr(device, work)(url)
        except Exception as problem:
            wrong.append(f"{type(problem).__name__}: {problem}")

    threads = [threading.Thread(target=run, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    return threads, wrong


def crash_often(folder, store: str, rounds: int):
    """Starts, loads, kills, and looks whether everything holds, so many times."""
    dice = random.Random(store.split(":")[0])
    devices = [Device(number) for number in range(DEVICES)]
    environment = {"STORE": store, "ACCOUNTS_SECRET": "the secret of gateways that are killed"}
    for number in range(rounds + 1):
        gateway = Gateway(CONFIG, folder, environment)
        try:
            threads, wrong = together(devices, "look", gateway.url)
            for thread in threads:
                thread.join()
            assert not wrong, f"after crash {number}: {wrong}"
            if number == rounds:
                break
            threads, wrong = together(devices, "use", gateway.url)
            done = sum(device.acknowledged for device in devices) + dice.randrange(40)
            deadline = time.monotonic() + START
            while sum(device.acknowledged for device in devices) <= done and not wrong:
                assert time.monotonic() < deadline, "nothing happens"
                time.sleep(dice.uniform(0.0, 0.01))
        finally:
            gateway.process.kill()
            gateway.process.wait()
        for thread in threads:
            thread.join()
        assert not wrong, f"before crash {number + 1}: {wrong}"
        assert "panicked" not in "\n".join(gateway.log.kept)
    told = sum(device.acknowledged for device in devices)
    print(f"{rounds} crashes, {told} acknowledged changes")
    assert told > rounds


@pytest.mark.timeout(600 * TIMES)
def test_sqlite_loses_nothing_that_was_acknowledged(tmp_path):
    crash_often(tmp_path, f"sqlite:{tmp_path}/users.db", 200 * TIMES)


@pytest.mark.timeout(600 * TIMES)
def test_postgres_loses_nothing_that_was_acknowledged(tmp_path):
    crash_often(tmp_path, database(), 100 * TIMES)
