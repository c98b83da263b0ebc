"""A client of the token API with httpx.

    pip install httpx httpx-sse
    portcullis demo                                     # in another shell
    python examples/clients/python/client.py http://127.0.0.1:8080
"""

import sys
import threading
import uuid

import httpx
from httpx_sse import connect_sse


class Tokens(httpx.Auth):
    """Sends the access token. A 401 is answered by one refresh and one more try; threads that fail together refresh once."""

    def __init__(self, url: str):
        self.url = url
        self.access = self.refresh = ""
        self._lock = threading.Lock()

    def take(self, answer: httpx.Response):
        """The pair of a log-in or a refresh."""
        answer.raise_for_status()
        pair = answer.json()
        self.access, self.refresh = pair["access_token"], pair["refresh_token"]

    def sync_auth_flow(self, request):
        used = self.access
        if not used:
            yield request
            return
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code != 401:
            return
        with self._lock:
            if self.access == used:
                # 401 here: the session has ended, the user must log in again. 503: try again later.
                answer = yield httpx.Request("POST", f"{self.url}/auth/refresh", json={"refresh_token": self.refresh})
                answer.read()
                self.take(answer)
        request.headers["Authorization"] = f"Bearer {self.access}"
        yield request


class Client:
    """One user of the gateway at `url`; `http` is an ordinary `httpx.Client`."""

    def __init__(self, url: str):
        self.tokens = Tokens(url)
        self.http = httpx.Client(base_url=url, auth=self.tokens)

    def register(self, username: str, email: str, password: str) -> dict:
        """Makes the user."""
        body = {"username": username, "email": email, "password": password}
        return self.http.post("/auth/register", json=body, auth=None).raise_for_status().json()

    def log_in(self, username: str, password: str):
        """Opens a session."""
        self.tokens.take(self.http.post("/auth/login", json={"username": username, "password": password}, auth=None))

    def log_out(self):
        """Ends the session, with its tokens and streams."""
        self.http.post("/auth/logout").raise_for_status()
        self.tokens.access = self.tokens.refresh = ""

    def stream(self, path: str, body: dict):
        """Events of a POST that is answered by an event stream. Leaving the loop ends the upstream's work."""
        # Between two events there may be any time; the gateway's heartbeats come every 15 s.
        with connect_sse(self.http, "POST", path, json=body, timeout=httpx.Timeout(10, read=60)) as events:
            events.response.raise_for_status()
            yield from events.iter_sse()


def main(url: str):
    """What one does with it."""
    name, password = f"user-{uuid.uuid4().hex[:8]}", "correct horse battery"
    client = Client(url)
    client.register(name, f"{name}@example.com", password)
    client.log_in(name, password)
    print("me", client.http.get("/auth/me").raise_for_status().json())
    for event in client.stream("/api/v1/faceflip/generate/stream", {"prompt": "hills", "steps": 5, "delay_ms": 20}):
        print(event.event, event.data[:60])
    client.log_out()
    print("after log-out", client.http.get("/api/v1/whoami").status_code)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
