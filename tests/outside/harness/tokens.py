"""Mints tokens with PyJWT, and remembers every one so that the logs can be searched for them."""

import time
import uuid

import jwt

SECRET = "outside-tests-shared-secret-of-forty-eight-bytes"
ISSUER = "https://issuer.test/auth/v1"
AUDIENCE = "authenticated"

minted: set[str] = set()


def claims(sub: str = "user-1", lifetime: float = 3600, **more) -> dict:
    """Claims as Supabase writes them; a claim given as `...` is left out."""
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": sub,
        "email": f"{sub}@example.test",
        "role": "authenticated",
        "is_anonymous": False,
        "session_id": str(uuid.uuid4()),
        "iat": now,
        "exp": int(now + lifetime),
        **more,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def mint(
    sub: str = "user-1", lifetime: float = 3600, key=SECRET, algorithm: str = "HS256", headers=None, **more
) -> str:
    """A signed token; `lifetime` in seconds may be negative."""
    token = jwt.encode(claims(sub, lifetime, **more), key, algorithm=algorithm, headers=headers)
    minted.add(token)
    return token


def bearer(token: str) -> dict[str, str]:
    """The usual header."""
    return {"authorization": f"Bearer {token}"}
