"""What Schemathesis must know to call the gateway: a credential that is good, whatever the last call ended, and API keys."""

import os
import re
import uuid

import httpx
import schemathesis

URL, ANON, SERVICE = (os.environ[f"OUTSIDE_{name}"] for name in ("GATEWAY", "ANON", "SERVICE"))
SUPABASE = "/auth/v1"


@schemathesis.auth(refresh_interval=None)
class Bearer:
    """A user's access token, which all four APIs take; the service key for the calls that administer."""

    token = None

    def get(self, case, ctx):
        """Another user, as soon as nothing is left of the last one."""
        if case.operation.path.startswith((f"{SUPABASE}/admin/", f"{SUPABASE}/invite")):
            return SERVICE
        with httpx.Client(base_url=URL + SUPABASE, headers={"apikey": ANON}, timeout=20) as client:
            good = self.token and client.get("/user", headers={"authorization": f"Bearer {self.token}"}).is_success
            if not good:
                body = {"email": f"fuzz-{uuid.uuid4().hex}@mail.example", "password": "correct horse battery"}
                self.token = client.post("/signup", json=body).json()["access_token"]
        return self.token

    def set(self, case, data, ctx):
        """As a bearer."""
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """A made-up API key would be all that is ever looked at."""
    if case.operation.path.startswith(SUPABASE):
        case.headers["apikey"] = ANON


@schemathesis.hook
def filter_path_parameters(context, path_parameters):
    """Paths that could be read in two ways are refused before it is known whose they are, in the gateway's own shape."""
    return all(re.fullmatch(r"[\w -]*", str(value)) for value in (path_parameters or {}).values())
