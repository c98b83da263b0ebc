"""An issuer that publishes its keys over HTTP, and changes them when told."""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from .tokens import mint

MAKERS = {
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "ES384": (lambda: ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "PS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class Key:
    """A signing key with its id."""

    def __init__(self, algorithm: str, kid: str | None = None):
        make, self.shape = MAKERS[algorithm]
        self.algorithm, self.kid, self.private = algorithm, kid or str(uuid.uuid4()), make()

    def public(self) -> dict:
        """The key's row in a JWKS."""
        return self.shape.to_jwk(self.private.public_key(), as_dict=True) | {
            "kid": self.kid,
            "alg": self.algorithm,
            "use": "sig",
        }

    def mint(self, sub: str = "user-1", lifetime: float = 3600, **claims) -> str:
        """A token by this key."""
        return mint(sub, lifetime, self.private, self.algorithm, {"kid": self.kid}, **claims)


class Issuer:
    """Serves `/.well-known/jwks.json`. `keys` is what is published; `answer` replaces it by a status and a body."""

    def __init__(self, *keys: Key):
        self.keys, self.answer, self.asked = list(keys), None, 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked += 1
                status, body = issuer.answer or (200, json.dumps({"keys": [key.public() for key in issuer.keys]}))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if status in (301, 302):
                    self.send_header("Location", body)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends the server."""
        self.server.shutdown()
        self.server.server_close()
