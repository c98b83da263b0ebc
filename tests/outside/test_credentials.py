"""Security catalogue §2: where the credential is, and that it is one."""

import json

import pytest
from harness.raw import ask, request
from harness.tokens import mint, minted


def places(token: str) -> dict[str, tuple[str, list[str]]]:
    """Each place of a credential: what is added to the target, and which headers."""
    return {
        "bearer": ("", [f"Authorization: Bearer {token}"]),
        "header": ("", [f"token: {token}"]),
        "session header": ("", [f"X-Session-Token: {token}"]),
        "query": (f"token={token}", []),
        "access query": (f"access_token={token}", []),
        "cookie": ("", [f"Cookie: portcullis={token}"]),
    }


NAMES = list(places(""))
PAIRS = [(first, second) for first in NAMES for second in NAMES]


def both(first: tuple[str, list[str]], second: tuple[str, list[str]]) -> bytes:
    """One request with the credentials of both places."""
    query = "&".join(part for part in (first[0], second[0]) if part)
    return request(f"GET /api/x?{query}" if query else "GET /api/x", *first[1], *second[1])


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_different_credentials_are_a_conflict(guarded, recorder, first, second):
    reply = ask(guarded.address, both(places(mint("alice"))[first], places(mint("bob"))[second]))
    assert reply.status == 400
    assert json.loads(reply.body)["error"] == "credentials_conflict"
    assert recorder.nothing()


@pytest.mark.parametrize(("first", "second"), [pair for pair in PAIRS if pair[0] != pair[1]])
def test_the_same_credential_twice_is_one_and_is_removed_from_both(guarded, recorder, first, second):
    token = mint("alice")
    assert ask(guarded.address, both(places(token)[first], places(token)[second])).status == 200
    seen = recorder.take()
    assert token.encode() not in seen.raw
    assert seen.one("x-user-id") == "alice"


@pytest.mark.parametrize("stronger", NAMES)
@pytest.mark.parametrize("weaker", NAMES)
def test_a_bad_credential_is_never_passed_over_for_a_good_one(guarded, recorder, stronger, weaker):
    reply = ask(guarded.address, both(places(mint(lifetime=-9))[stronger], places(mint())[weaker]))
    assert reply.status in (400, 401)
    assert recorder.nothing()


@pytest.mark.parametrize(
    "value",
    [
        "Bearer {0}, Bearer {0}",
        "Bearer {0} x",
        'Bearer "{0}"',
        "Bearer\t{0}",
        "Bearer{0}",
        "Bearer",
        "Bearer ",
        "",
        "Bearer  {0}",
        "{0}",
        "Basic dTpw",
        "Digest {0}",
        "Bearer {0},",
        "Bearer {0}=",
        "Bearer {0}\x80",
    ],
)
def test_an_authorization_that_is_not_exactly_a_bearer_token_is_refused(guarded, recorder, value):
    reply = ask(guarded.address, request("GET /api/x", "Authorization: " + value.format(mint())))
    assert reply.status in (400, 401)
    assert recorder.nothing()


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "BeArEr"])
def test_the_scheme_may_be_in_any_case(guarded, recorder, scheme):
    assert ask(guarded.address, request("GET /api/x", f"Authorization: {scheme} {mint()}")).status == 200
    assert recorder.take().all("authorization") == []


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/api/x", ["X_Session_Token: {0}"]),
        ("/api/x", ["Proxy-Authorization: Bearer {0}"]),
        ("/api/x?TOKEN={0}", []),
        ("/api/x?token[]={0}", []),
        ("/api/x?token%5b%5d={0}", []),
        ("/api/{0}", []),
        ("/api/x;token={0}", []),
        ("/api/x?a=b;token={0}", []),
        ("/api/x?a=b?token={0}", []),
        ("/api/x", ["Cookie: Portcullis={0}"]),
        ("/api/x", ["Cookie: xportcullis={0}"]),
    ],
)
def test_what_is_no_place_of_a_credential_is_none(guarded, recorder, target, headers):
    token = mint()
    # A path is logged as it came: it has no business with a token.
    minted.discard(token)
    reply = ask(guarded.address, request("GET " + target.format(token), *[header.format(token) for header in headers]))
    assert reply.status in (400, 401)
    assert recorder.nothing()


def test_a_body_is_never_read_for_a_token(guarded, recorder):
    body = f"token={mint()}".encode()
    data = request(
        "POST /api/x", "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", body=body
    )
    assert ask(guarded.address, data).status == 401
    assert recorder.nothing()


def test_an_escaped_query_token_is_found_and_removed_in_that_form(guarded, recorder):
    token = mint("escaped")
    for query in (
        f"a=1&%74oken={token}&b=2",
        f"a=1&token=%{ord(token[0]):02x}{token[1:]}&b=2",
        f"a=1&to%6ben=%{ord(token[0]):02X}{token[1:]}&b=2",
    ):
        reply = ask(guarded.address, request(f"GET /api/x?{query}"))
        assert reply.status == 200, query
        seen = recorder.take()
        assert seen.target == "/api/x?a=1&b=2"
        assert seen.one("x-user-id") == "escaped"


@pytest.mark.parametrize("route", ["public", "guests", "api"])
def test_a_query_token_is_removed_on_every_route_and_the_rest_is_kept_to_the_byte(guarded, recorder, route):
    token = mint()
    for query, kept in [
        (f"token={token}", ""),
        (f"token={token}&a=%2F+%20&&b", "?a=%2F+%20&&b"),
        (f"a=%zz&token={token}", "?a=%zz"),
        (f"&token={token}&", None),
    ]:
        reply = ask(guarded.address, request(f"GET /{route}/x?{query}", f"Authorization: Bearer {token}"))
        assert reply.status == 200, query
        seen = recorder.take()
        assert token.encode() not in seen.raw
        assert seen.all("authorization") == []
        if kept is not None:
            assert seen.target == f"/{route}/x{kept}"


def test_answers_to_a_query_token_are_not_stored_and_give_no_referrer(guarded, recorder):
    reply = ask(guarded.address, request(f"GET /api/x?token={mint()}"))
    assert reply.status == 200
    assert reply.get("referrer-policy") == "no-referrer"
    assert reply.get("cache-control") == "no-store"


def test_only_our_cookie_is_removed(guarded, recorder):
    token = mint()
    for cookies, kept in [
        (f"portcullis={token}", []),
        (f"a=1; portcullis={token}; b=2", ["a=1; b=2"]),
        (f"portcullis={token}; session=theirs", ["session=theirs"]),
    ]:
        assert ask(guarded.address, request("GET /api/x", f"Cookie: {cookies}")).status == 200
        assert recorder.take().all("cookie") == kept


def test_the_challenge_says_no_more_than_it_must(guarded, recorder):
    missing = ask(guarded.address, request("GET /api/x"))
    assert (
        missing.status == 401
        and missing.all("www-authenticate") == ["Bearer"]
        or missing.get("www-authenticate").startswith("Bearer realm")
    )
    bad = ask(guarded.address, request("GET /api/x", "Authorization: Bearer a.b.c"))
    assert 'error="invalid_token"' in bad.get("www-authenticate")
    assert recorder.nothing()


def test_a_token_over_the_limit_is_refused_before_it_is_decoded(guarded, recorder):
    reply = ask(guarded.address, request("GET /api/x", f"Authorization: Bearer {mint(filler='a' * 9000)}"))
    assert reply.status == 401
    assert recorder.nothing()


TOKENS = {
    "alg none": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyLTEifQ.",
    "four parts": "{0}.x",
    "two parts": "{1}",
    "empty signature": "{1}.",
    "padding": "{0}=",
    "a space": "{0} ",
    "twice": "{0}{0}",
    "JSON": '{{"payload":"x"}}',
    "only dots": "..",
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_in_any_other_form_is_refused(guarded, recorder, name):
    token = mint()
    text = TOKENS[name].format(token, token.rsplit(".", 1)[0])
    reply = ask(guarded.address, request("GET /api/x", f"token: {text}x" if name == "twice" else f"token: {text}"))
    # Space around a header's value is no part of it (RFC 9110 §5.5).
    assert reply.status == (200 if name == "a space" else 401)
