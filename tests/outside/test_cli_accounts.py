"""The commands on accounts, beside a running gateway and without one."""

import json
import os
import pty
import subprocess
import termios
import threading
import time
from pathlib import Path

import httpx
import jwt
import pytest
from harness.gateway import BINARY, START
from harness.postgres import database

PASSWORD = "correct horse"
CONFIG = """
[server]
listen = ["127.0.0.1:0"]
workers = 2
drain_timeout = "1s"

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"
level = "info"

{store}

[accounts]
issuer = "https://cli.test/auth/v1"
secret = "${ACCOUNTS_SECRET}"
key_notice = "0s"
{accounts}

[accounts.password]
argon2_memory = "7MiB"
argon2_iterations = 1

[api.token]
mount = "/auth"

[api.session]
auth_mount = "/api/auth"
sessions_mount = "/api/sessions"

[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "app"
path = "/app/{*rest}"
upstream = "app"
auth = "required"

[[route]]
name = "events"
path = "/sse/{*rest}"
upstream = "app"
auth = "required"
"""
SECRET = {"ACCOUNTS_SECRET": "a secret of accounts for the outside tests"}


class House:
    """A config with its store, and the commands over it."""

    def __init__(self, folder: Path, store: str = "", accounts: str = ""):
        self.folder = folder
        self.text = CONFIG.replace("{store}", store and f'[store]\nurl = "{store}"').replace("{accounts}", accounts)
        self.configure()

    def configure(self):
        """Writes its config."""
        (self.folder / "portcullis.toml").write_text(self.text, encoding="utf-8")

    def run(self, *arguments: str, typed: str = "", code: int = 0) -> subprocess.CompletedProcess:
        """A command; what it prints goes nowhere else."""
        done = subprocess.run(
            [str(BINARY), *arguments, "--config", str(self.folder / "portcullis.toml")],
            input=typed,
            capture_output=True,
            text=True,
            timeout=START * 3,
            check=False,
            env=os.environ | SECRET | {"APP": "127.0.0.1:9"},
        )
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert PASSWORD not in done.stdout + done.stderr
        return done

    def ask(self, *arguments: str, typed: str = ""):
        """What a command says in JSON."""
        return json.loads(self.run(*arguments, "--json", typed=typed).stdout)

    def add(self, name: str, *more: str, password: str = PASSWORD) -> dict:
        """A new user."""
        return self.ask("user", "add", name, "--email", f"{name}@mail.test", *more, typed=password + "\n")


@pytest.fixture(params=["sqlite", "postgres"])
def house(request, tmp_path):
    """A house on each engine."""
    return House(tmp_path, "" if request.param == "sqlite" else database())


def open_gateway(start, house: House):
    """A gateway over the house's store."""
    return start(house.text, house.folder, **SECRET)


def log_in(gateway, name: str, password: str = PASSWORD) -> httpx.Response:
    """A log-in by the token API."""
    return httpx.post(gateway.url + "/auth/login", json={"username": name, "password": password})


def bearer(pair: dict) -> dict:
    """The header of a pair."""
    return {"authorization": f"Bearer {pair['access_token']}"}


def me(gateway, pair: dict) -> int:
    """Whether a pair's access token is taken."""
    return httpx.get(gateway.url + "/auth/me", headers=bearer(pair)).status_code


def soon(what, message: str):
    """Asks until it holds: what another process did is known within about a second."""
    deadline = time.monotonic() + START
    while not what():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


def test_a_user_is_made_shown_and_listed(house):
    user = house.add("Ada", "--admin", "--role", "editor")
    assert user["app_metadata"]["roles"] == ["editor", "admin"]
    assert (user["username"], user["email"], user["password"]) == ("Ada", "ada@mail.test", "argon2id")
    for who in (user["id"], "ADA", "ada@MAIL.test"):
        assert house.ask("user", "show", who)["id"] == user["id"]
    house.add("bob")
    listed = house.ask("user", "list")
    assert (listed["total"], [it["username"] for it in listed["users"]]) == (2, ["bob", "Ada"])
    assert house.ask("user", "list", "--containing", "ADA")["total"] == 1
    for text in (house.run("user", "list").stdout, house.run("user", "show", "ada").stdout):
        assert "ada@mail.test" in text and "$argon2id" not in text


def test_a_change_leaves_an_audit_line(house):
    user = house.add("ada")
    done = house.run("user", "disable", "ada")
    line = json.loads(done.stderr)
    assert (line["audit"], line["result"], line["by"]) == ("user_disable", "ok", "command_line")
    assert line["user_id"] == user["id"] and "ada" not in done.stderr
    assert house.run("user", "show", "ada").stderr == ""


def test_what_cannot_be_a_user_is_refused(house):
    house.add("ada")
    for arguments, typed, word in [
        (["ADA"], PASSWORD, "username"),
        (["eve", "--email", "Ada@mail.test"], PASSWORD, "e-mail"),
        (["a b"], PASSWORD, "username"),
        (["eve", "--email", "nowhere"], PASSWORD, "e-mail"),
        ([], PASSWORD, "username"),
        (["eve"], "short", "weak"),
        (["eve"], "", "password"),
        (["eve"], "x" * 2000, "longer"),
    ]:
        done = house.run("user", "add", *arguments, typed=typed + "\n", code=1)
        assert word in done.stderr, (arguments, done.stderr)
    assert house.ask("user", "list")["total"] == 1
    assert "--allow-weak-password" in house.run("user", "add", "eve", typed="short\n", code=1).stderr
    house.run("user", "add", "eve", "--allow-weak-password", typed="short\n")
    for arguments in (["show", "nobody"], ["disable", "nobody"], ["delete", "nobody", "--yes"], ["passwd", "no@body"]):
        assert "no user" in house.run("user", *arguments, typed=PASSWORD + "\n", code=1).stderr


def test_a_password_is_asked_for_without_an_echo(tmp_path):
    house = House(tmp_path)
    seen = b""

    def read(descriptor):
        nonlocal seen
        piece = os.read(descriptor, 1024)
        seen += piece
        return piece

    child, terminal = pty.fork()
    if child == 0:
        os.environ |= SECRET | {"APP": "127.0.0.1:9"}
        os.execv(BINARY, [str(BINARY), "user", "add", "ada", "--config", str(tmp_path / "portcullis.toml")])
    for prompt in (b"Password: ", b"Again: "):
        while prompt not in seen:
            read(terminal)
        soon(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "the terminal echoes")
        os.write(terminal, PASSWORD.encode() + b"\n")
    try:
        while read(terminal):
            pass
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, seen
    assert b"added ada" in seen and PASSWORD.encode() not in seen
    assert house.ask("user", "show", "ada")["password"] == "argon2id"


def test_a_running_gateway_notices(house, start):
    house.add("ada")
    gateway = open_gateway(start, house)
    first = log_in(gateway, "ada").json()
    assert me(gateway, first) == 200
    house.run("user", "disable", "ada")
    soon(lambda: me(gateway, first) == 401, "a disabled user is let in")
    assert log_in(gateway, "ada").status_code == 403
    house.run("user", "enable", "ada")
    soon(lambda: me(gateway, first) == 200, "an enabled user is kept out")

    second = log_in(gateway, "ada").json()
    sessions = house.ask("session", "list", "ada")["sessions"]
    assert len(sessions) == 2 and not any(it["ended_at"] for it in sessions)
    assert all(it["user_agent"].startswith("python-httpx/") and it["address"] == "127.0.0.1" for it in sessions)
    house.run("session", "end", sessions[0]["id"])
    soon(lambda: sorted([me(gateway, first), me(gateway, second)]) == [200, 401], "the one session, and only it")
    house.run("session", "end", "--user", "ada")
    soon(lambda: me(gateway, first) == me(gateway, second) == 401, "all sessions")

    third = log_in(gateway, "ada").json()
    house.run("user", "passwd", "ada", typed="another horse\n")
    soon(lambda: me(gateway, third) == 401, "the old password's token")
    assert log_in(gateway, "ada").status_code == 401
    fourth = log_in(gateway, "ada", "another horse").json()
    assert me(gateway, fourth) == 200
    assert "--yes" in house.run("user", "delete", "ada", code=1).stderr
    house.run("user", "delete", "ada", "--yes")
    soon(lambda: me(gateway, fourth) == 401, "a deleted user is let in")
    answer = httpx.post(gateway.url + "/auth/refresh", json={"refresh_token": fourth["refresh_token"]})
    assert answer.status_code == 401


def test_a_stream_ends_with_the_session_that_another_process_ended(start, tmp_path):
    house = House(tmp_path)
    house.add("ada")
    gateway = open_gateway(start, house)
    pair = log_in(gateway, "ada").json()
    with httpx.stream("GET", gateway.url + "/sse/endless/cli", headers=bearer(pair), timeout=START) as events:
        pieces = events.iter_text()
        assert next(piece for piece in pieces if "event: tick" in piece)
        house.run("session", "end", "--user", "ada")
        assert "auth_revoked" in "".join(pieces)


def test_keys_are_rotated_without_a_refused_request(house, start):
    house.add("ada")
    gateway = open_gateway(start, house)
    pair = log_in(gateway, "ada").json()
    before = house.ask("keys", "list")["keys"]
    assert [key["state"] for key in before] == ["signs"]
    made = house.ask("keys", "rotate")
    assert made["kid"] != before[0]["kid"]

    def published() -> list[str]:
        document = httpx.get(gateway.url + "/.well-known/jwks.json").json()
        return [key["kid"] for key in document["keys"]]

    soon(lambda: made["kid"] in published(), "the new key is not published")
    assert before[0]["kid"] in published()
    assert me(gateway, pair) == 200
    assert me(gateway, log_in(gateway, "ada").json()) == 200
    assert "signs" in house.run("keys", "list").stdout


def private_key(algorithm: str) -> str:
    """A key as an operator keeps it: PKCS#8, SEC1 or PKCS#1 in PEM, or a secret."""
    from cryptography.hazmat.primitives import serialization as ways
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if algorithm == "HS256":
        return "a secret of a project that moves here with its tokens"
    key, form = {
        "ES256": lambda: (ec.generate_private_key(ec.SECP256R1()), ways.PrivateFormat.TraditionalOpenSSL),
        "RS256": lambda: (rsa.generate_private_key(65537, 2048), ways.PrivateFormat.TraditionalOpenSSL),
        "EdDSA": lambda: (ed25519.Ed25519PrivateKey.generate(), ways.PrivateFormat.PKCS8),
    }[algorithm]()
    return key.private_bytes(ways.Encoding.PEM, form, ways.NoEncryption()).decode()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA", "HS256"])
def test_an_operator_gives_the_first_key(start, tmp_path, algorithm):
    """What it signed elsewhere is good here, and what it signs here is good there."""
    house, text = House(tmp_path, accounts=f'algorithm = "{algorithm}"'), private_key(algorithm)
    assert "no key for" in house.run("keys", "rotate", "--given", typed="-----BEGIN NOTHING-----", code=1).stderr
    assert house.ask("keys", "rotate", "--given", "--kid", "elsewhere", typed=text + "\n")["kid"] == "elsewhere"
    again = house.run("keys", "rotate", "--given", "--kid", "elsewhere", typed=text, code=1)
    assert "a key of this name" in again.stderr and text.splitlines()[-1] not in again.stdout + again.stderr
    user = house.add("ada")
    gateway = open_gateway(start, house)
    (key,) = house.ask("keys", "list")["keys"]
    assert (key["kid"], key["algorithm"], key["state"]) == ("elsewhere", algorithm, "signs")
    pair = log_in(gateway, "ada").json()
    assert jwt.get_unverified_header(pair["access_token"])["kid"] == "elsewhere"
    public = text
    if algorithm != "HS256":
        (published,) = httpx.get(gateway.url + "/.well-known/jwks.json").json()["keys"]
        public = jwt.PyJWK(published).key
    claims = jwt.decode(pair["access_token"], public, algorithms=[algorithm], audience="authenticated")
    assert claims["sub"] == user["id"]
    fresh = jwt.encode(claims | {"iat": claims["iat"] - 1}, text, algorithm=algorithm, headers={"kid": "elsewhere"})
    assert me(gateway, pair) == me(gateway, {"access_token": fresh}) == 200
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("portcullis.db*"))
    assert b"PRIVATE KEY" not in stored and text.encode() not in stored


@pytest.mark.timeout(120)
def test_keys_are_rotated_under_load_and_no_request_fails(tmp_path, start):
    """Log-ins, refreshes and proxied calls go on while keys follow one another; a verifier knows every key before it signs."""
    house = House(tmp_path)
    # Gateways look for keys of other processes every five seconds.
    house.text = house.text.replace('key_notice = "0s"', 'key_notice = "10s"')
    house.text += "\n[limits]\nenabled = false\n\n[accounts.attempts]\nper_address = 0\nrefreshes_per_address = 0\n"
    house.configure()
    for number in range(4):
        house.add(f"user{number}")
    gateway = open_gateway(start, house)
    over, kids, wrong = threading.Event(), set(), []

    def use(name: str):
        known: set[str] = set()
        oldest = log_in(gateway, name).json()
        try:
            with httpx.Client(base_url=gateway.url, timeout=20) as client:
                pair = oldest
                while not over.is_set():
                    keys = client.get("/.well-known/jwks.json").json()["keys"]
                    pair = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).raise_for_status().json()
                    # Whoever fetched the keys a moment before the token was signed has the one that signed it.
                    known = {key["kid"] for key in keys}
                    kid = jwt.get_unverified_header(pair["access_token"])["kid"]
                    assert kid in known, f"{kid} signed before it was published"
                    kids.add(kid)
                    for held in (pair, oldest):
                        client.get("/auth/me", headers=bearer(held)).raise_for_status()
                    body = {"username": name, "password": PASSWORD}
                    client.post("/auth/login", json=body).raise_for_status()
        except Exception as problem:
            wrong.append(f"{type(problem).__name__}: {problem}")

    threads = [threading.Thread(target=use, args=(f"user{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(1, 3):
            made = house.ask("keys", "rotate")["kid"]
            soon(lambda: made in kids or wrong, f"the key of turn {turn} signs nothing")  # noqa: B023
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong
    assert len(kids) == 3


BCRYPT = "$2b$04$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"
"""Not of any password here: only its form counts."""


def write(folder: Path, name: str, text: str) -> str:
    """A file to import."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_table_is_imported_whole_or_not_at_all(house):
    house.add("taken")
    rows = [
        "username,email,password_hash,is_active,roles",
        f"ada,Ada@mail.test,{BCRYPT},true,admin",
        f"bob,,{BCRYPT},false,",
        "eve,eve@mail.test,plain text,true,",
        f"ADA,other@mail.test,{BCRYPT},true,",
        f"taken,x@mail.test,{BCRYPT},true,",
        f"a b,y@mail.test,{BCRYPT},true,",
    ]
    file = write(house.folder, "users.csv", "\n".join(rows) + "\n")
    done = house.run("user", "import", file, code=1)
    told = {int(line.split(":")[0].removeprefix("line ")): line for line in done.stderr.splitlines()}
    assert sorted(told) == [4, 5, 6, 7], done.stderr
    assert "password_hash" in told[4] and "line 2" in told[5] and "already" in told[6] and "a b" in told[7]
    assert "plain text" not in done.stderr
    assert house.ask("user", "list")["total"] == 1
    assert house.ask("user", "import", file, "--skip-bad", "--dry-run")["imported"] == 0
    assert house.ask("user", "import", file, "--skip-bad")["imported"] == 2
    ada, bob = house.ask("user", "show", "ada"), house.ask("user", "show", "bob")
    assert (ada["app_metadata"]["roles"], ada["password"], ada["disabled"]) == (["admin"], "bcrypt", False)
    assert bob["disabled"]
    again = house.run("user", "import", file, "--skip-bad")
    assert "imported 0 users" in again.stdout


def test_json_is_imported_too(house):
    users = [{"username": f"user{at}", "password_hash": BCRYPT, "id": at} for at in range(300)]
    listed = write(house.folder, "users.json", json.dumps(users, indent=1))
    done = house.run("user", "import", listed, code=1)
    assert done.stderr.startswith("line 2: id: is no UUID") and done.stderr.count("\n") == 300
    assert house.ask("user", "import", listed, "--ignore", "id")["imported"] == 300
    lines = write(house.folder, "users.jsonl", '{"email":"a@mail.test"}\n\n{"email":"b@mail.test"}\nnonsense\n')
    done = house.run("user", "import", lines, "--without-passwords", code=1)
    assert done.stderr == "line 4: is no JSON object\n"


def test_imported_hashes_log_in_and_are_made_anew(start, tmp_path):
    house = House(tmp_path, accounts="")
    import_of = {"password_hash": house_hash(tmp_path), "username": "ada"}
    house.run("user", "import", write(tmp_path, "users.json", json.dumps([import_of])))
    gateway = open_gateway(start, house)
    assert log_in(gateway, "ada", "wrong horse").status_code == 401
    assert log_in(gateway, "ada").status_code == 200
    soon(lambda: house.ask("user", "show", "ada")["password"] == "argon2id", "the hash stays as it was")


def house_hash(folder: Path) -> str:
    """A bcrypt hash of PASSWORD, as another program would have made it."""
    other = folder / "other"
    other.mkdir()
    house = House(other)
    file = other / "portcullis.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[accounts.password]", '[accounts.password]\nhash = "bcrypt"\nbcrypt_cost = 10'))
    house.add("somebody")
    import sqlite3

    with sqlite3.connect(other / "portcullis.db") as store:
        return store.execute("SELECT password FROM users").fetchone()[0]


def test_a_backup_is_whole_while_the_store_is_in_use(start, tmp_path):
    house = House(tmp_path)
    house.add("ada")
    gateway = open_gateway(start, house)
    pair = log_in(gateway, "ada").json()
    copy = tmp_path / "copy"
    copy.mkdir()
    house.run("store", "backup", str(copy / "portcullis.db"))
    assert (copy / "portcullis.db").stat().st_mode & 0o777 == 0o600
    assert "cannot be made" in house.run("store", "backup", str(copy / "portcullis.db"), code=1).stderr
    other = open_gateway(start, House(copy))
    assert me(other, pair) == 200, "the copy has users, sessions and keys"


def test_the_first_admin_comes_from_the_environment(start, tmp_path):
    admin = '\n[accounts.admin]\nusername = "root"\npassword = "${ADMIN_PASSWORD}"\n'
    house = House(tmp_path, accounts=admin)
    gateway = start(house.text, tmp_path, **SECRET, ADMIN_PASSWORD="a long first password")
    pair = log_in(gateway, "root", "a long first password").json()
    assert me(gateway, pair) == 200
    users = httpx.get(gateway.url + "/auth/me", headers=bearer(pair)).json()
    assert users["username"] == "root"


def test_without_accounts_the_commands_say_so(tmp_path):
    house = House(tmp_path)
    file = tmp_path / "portcullis.toml"
    tables = house.text.split("\n[")
    kept = [table for table in tables if not table.startswith(("accounts", "api."))]
    text = "\n[".join(kept).replace('"required"', '"public"')
    file.write_text(text, encoding="utf-8")
    assert "no [accounts]" in house.run("user", "list", code=1).stderr
    file.write_text("nonsense", encoding="utf-8")
    assert "portcullis.toml" in house.run("session", "list", "ada", code=1).stderr
