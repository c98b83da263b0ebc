"""An issuer with a JWKS URL: rotation, unknown keys, an issuer that is down or talks nonsense."""

import ssl

import httpx
import pytest
from harness import certificates
from harness.gateway import config
from harness.jwks import MAKERS, Issuer, Key
from harness.tokens import bearer, mint

ISSUERS = """
[[issuer]]
name = "published"
iss = "https://published.test"
audience = ["authenticated"]
algorithms = ["ES256", "ES384", "RS256", "PS256", "EdDSA"]
jwks_url = "http://${JWKS}/.well-known/jwks.json"
jwks_min_interval = "1s"
jwks_timeout = "2s"

[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "all"
path = "/{*rest}"
upstream = "app"
auth = "required"
"""
CONFIG = config(ISSUERS)
PUBLISHED = "https://published.test"


@pytest.fixture
def issuer():
    issuer = Issuer(Key("ES256"))
    yield issuer
    issuer.stop()


def status(gateway, token: str) -> int | str:
    """200, or the refusal's word."""
    answer = httpx.get(gateway.url + "/json", headers=bearer(token), timeout=20)
    return 200 if answer.status_code == 200 else answer.json()["error"]


def eventually(gateway, mint_one, wanted) -> None:
    """Asks with fresh tokens until the answer is `wanted`; the test's time limit ends it."""
    while (found := status(gateway, mint_one())) != wanted:
        assert found in ("key_unknown", "keys_unavailable", "token_signature_invalid", 200), found


def test_every_algorithm_of_a_published_key_is_verified(start, issuer):
    keys = [Key(algorithm) for algorithm in MAKERS]
    issuer.keys = keys
    gateway = start(CONFIG, JWKS=issuer.address)
    for key in keys:
        assert status(gateway, key.mint(iss=PUBLISHED)) == 200, key.algorithm
        assert status(gateway, Key(key.algorithm, key.kid).mint(iss=PUBLISHED)) == "token_signature_invalid", (
            key.algorithm
        )
    assert status(gateway, mint()) == 200
    assert status(gateway, keys[0].mint()) in ("algorithm_refused", "token_signature_invalid")
    assert status(gateway, mint(iss=PUBLISHED)) == "algorithm_refused"


def test_the_algorithm_is_that_of_the_key(start, issuer):
    rsa, ec = Key("RS256"), Key("ES256")
    issuer.keys = [rsa, ec]
    gateway = start(CONFIG, JWKS=issuer.address)
    assert status(gateway, mint(key=rsa.private, algorithm="PS256", headers={"kid": rsa.kid}, iss=PUBLISHED)) != 200
    assert status(gateway, mint(key=rsa.private, algorithm="RS256", headers={"kid": ec.kid}, iss=PUBLISHED)) != 200


def test_a_rotated_key_is_fetched_when_its_id_is_first_seen(start, issuer):
    gateway = start(CONFIG, JWKS=issuer.address)
    old = issuer.keys[0]
    eventually(gateway, lambda: old.mint(iss=PUBLISHED), 200)
    fresh = Key("ES256")
    issuer.keys = [old, fresh]
    eventually(gateway, lambda: fresh.mint(iss=PUBLISHED), 200)
    assert status(gateway, old.mint(iss=PUBLISHED)) == 200


def test_one_id_may_get_new_material(start, issuer):
    gateway = start(CONFIG, JWKS=issuer.address)
    old = issuer.keys[0]
    eventually(gateway, lambda: old.mint(iss=PUBLISHED), 200)
    issuer.keys = [Key("ES256", old.kid)]
    eventually(gateway, lambda: issuer.keys[0].mint(iss=PUBLISHED), 200)


def test_a_storm_of_unknown_ids_is_few_fetches(start, issuer):
    gateway = start(CONFIG, JWKS=issuer.address)
    eventually(gateway, lambda: issuer.keys[0].mint(iss=PUBLISHED), 200)
    before = issuer.asked
    stranger = Key("ES256")
    with httpx.Client(base_url=gateway.url) as client:
        for at in range(200):
            stranger.kid = f"unknown-{at}"
            assert client.get("/json", headers=bearer(stranger.mint(iss=PUBLISHED))).json()["error"] == "key_unknown"
    assert issuer.asked - before <= 10


@pytest.mark.parametrize(
    "answer",
    [
        (500, "x"),
        (200, "not json"),
        (200, '{"keys":[]}'),
        (200, '{"keys":[' + " " * 300_000 + "]}"),
        (302, "http://127.0.0.1:1/"),
    ],
    ids=["500", "garbage", "none", "huge", "redirect"],
)
def test_the_last_good_keys_are_kept_when_the_issuer_talks_nonsense(start, issuer, answer):
    gateway = start(CONFIG, JWKS=issuer.address)
    good = issuer.keys[0]
    eventually(gateway, lambda: good.mint(iss=PUBLISHED), 200)
    issuer.answer = answer
    before = issuer.asked
    while issuer.asked == before:
        status(gateway, Key("ES256").mint(iss=PUBLISHED))
    assert status(gateway, good.mint(iss=PUBLISHED)) == 200


def test_keys_are_fetched_from_nobody_who_cannot_prove_who_it_is(start, issuer, tmp_path):
    certificate, key = certificates.write(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    issuer.server.socket = context.wrap_socket(issuer.server.socket, server_side=True)
    secure = CONFIG.replace("http://${JWKS}", "https://${JWKS}")
    gateway = start(secure, JWKS=issuer.address.replace("127.0.0.1", "localhost"))
    gateway.log.wait("keys could not be fetched.*cannot be reached")
    assert status(gateway, issuer.keys[0].mint(iss=PUBLISHED)) == "keys_unavailable"
    assert issuer.asked == 0


def test_an_issuer_that_is_down_at_the_start_is_no_crash(start, issuer):
    issuer.answer = (503, "")
    gateway = start(CONFIG, JWKS=issuer.address)
    key = issuer.keys[0]
    answer = httpx.get(gateway.url + "/json", headers=bearer(key.mint(iss=PUBLISHED)))
    assert (answer.status_code, answer.json()["error"]) == (503, "keys_unavailable")
    assert status(gateway, mint()) == 200
    ready = httpx.get(gateway.admin + "/readyz")
    assert ready.status_code == 503 and "published" in ready.text
    issuer.answer = None
    eventually(gateway, lambda: key.mint(iss=PUBLISHED), 200)
    # Readiness is gathered in the background; the test's time limit ends a wait that is too long.
    while httpx.get(gateway.admin + "/readyz").status_code != 200:
        pass
