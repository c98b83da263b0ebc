"""The same with Supabase's own client, against the gateway's Supabase API.

    pip install supabase-auth httpx httpx-sse          # `supabase` has the same client as `create_client(…).auth`
    portcullis demo                                     # in another shell
    python examples/clients/python/supabase_client.py http://127.0.0.1:8080
"""

import sys
import uuid

import httpx
from httpx_sse import connect_sse
from supabase_auth import SyncGoTrueClient


class Signed(httpx.Auth):
    """Sends the access token of whoever is signed in; a 401 is answered by one refresh and one more try."""

    def __init__(self, auth: SyncGoTrueClient):
        self.auth = auth

    def sync_auth_flow(self, request):
        # Refreshes by itself what is about to expire.
        session = self.auth.get_session()
        if session is None:
            yield request
            return
        request.headers["Authorization"] = f"Bearer {session.access_token}"
        response = yield request
        if response.status_code == 401:
            session = self.auth.refresh_session().session
            request.headers["Authorization"] = f"Bearer {session.access_token}"
            yield request


def main(url: str, key: str = "any"):
    """What one does with it. A gateway without `anon_keys` takes any key."""
    email, password = f"user-{uuid.uuid4().hex[:8]}@example.com", "correct horse battery"
    auth = SyncGoTrueClient(url=f"{url}/auth/v1", headers={"apikey": key})
    with httpx.Client(base_url=url, auth=Signed(auth)) as http:
        visitor = auth.sign_in_anonymously().user
        user = auth.update_user({"email": email, "password": password}).user
        print("same user", visitor.id == user.id)
        auth.sign_in_with_password({"email": email, "password": password})
        order = {"prompt": "hills", "steps": 5, "delay_ms": 20}
        with connect_sse(http, "POST", "/api/v1/faceflip/generate/stream", json=order) as events:
            for event in events.iter_sse():
                print(event.event, event.data[:60])
        print("claims", auth.get_claims()["claims"]["email"])
        auth.sign_out()
        print("after sign-out", http.get("/api/v1/whoami").status_code)


if __name__ == "__main__":
    main(*sys.argv[1:] or ["http://127.0.0.1:8080"])
