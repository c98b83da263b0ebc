// Signing up, in and out; refreshing; claims.
import {
  PASSWORD, address, assert, claimsOf, fails, forged, given, member, ok, open, raw, sessionMissing, signedIn,
} from "./client.mjs";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

/** From nothing to a session and back. */
export async function journey() {
  const email = address();
  const auth = open();
  const up = await ok(auth.signUp({ email, password: PASSWORD, options: { data: { name: "Ada" } } }));
  const { user, session } = up;
  assert.match(user.id, UUID);
  assert.equal(user.email, email);
  assert.equal(user.phone, "");
  assert.deepEqual([user.aud, user.role, user.is_anonymous], ["authenticated", "authenticated", false]);
  assert.equal(user.user_metadata.name, "Ada");
  assert.deepEqual(user.app_metadata, { provider: "email", providers: ["email"] });
  for (const time of ["created_at", "updated_at", "email_confirmed_at", "confirmed_at", "last_sign_in_at"]) {
    assert.match(user[time], TIME, time);
  }
  for (const absent of ["banned_until", "deleted_at", "new_email", "recovery_sent_at", "invited_at"]) {
    assert.ok(!(absent in user), absent);
  }
  const [identity] = user.identities;
  assert.deepEqual([identity.provider, identity.id, identity.user_id], ["email", user.id, user.id]);
  assert.match(identity.identity_id, UUID);
  assert.equal(identity.identity_data.sub, user.id);
  assert.equal(session.token_type, "bearer");
  assert.equal(session.expires_in, 3600);
  assert.ok(Number.isInteger(session.expires_at));

  const claims = claimsOf(session.access_token);
  assert.equal(claims.exp, session.expires_at);
  assert.equal(claims.sub, user.id);
  assert.equal(claims.aud, "authenticated");
  assert.equal(claims.iss, given.issuer);
  assert.deepEqual([claims.email, claims.phone], [email, ""]);
  assert.deepEqual([claims.role, claims.aal, claims.is_anonymous], ["authenticated", "aal1", false]);
  assert.equal(claims.amr[0].method, "password");
  assert.ok(Number.isInteger(claims.amr[0].timestamp));
  assert.match(claims.session_id, UUID);
  assert.ok(!("jti" in claims) && !("nbf" in claims));

  assert.deepEqual((await ok(auth.getUser())).user, user);
  assert.deepEqual(auth.events.filter((event) => event !== "INITIAL_SESSION"), ["SIGNED_IN"]);
  assert.equal(await auth.signOut().then(({ error }) => error), null);
  assert.ok(auth.events.includes("SIGNED_OUT"));
  assert.equal((await ok(auth.getSession())).session, null);
  await sessionMissing(open().getUser(session.access_token));

  // In again, however the address is written.
  const again = await ok(auth.signInWithPassword({ email: email.toUpperCase(), password: PASSWORD }));
  assert.equal(again.user.id, user.id);
  assert.notEqual(claimsOf(again.session.access_token).session_id, claims.session_id);
}

/** What sign-up and sign-in refuse, and how the client reads it. */
export async function refusals() {
  const { email } = await member();
  const auth = open();
  await fails(auth.signUp({ email, password: PASSWORD }), 422, "user_already_exists");
  await fails(auth.signUp({ email: email.toUpperCase(), password: "another password" }), 422, "user_already_exists");
  const wrong = await fails(auth.signInWithPassword({ email, password: "not this one" }), 400, "invalid_credentials");
  const unknown = await fails(
    auth.signInWithPassword({ email: address("nobody"), password: "not this one" }), 400, "invalid_credentials",
  );
  assert.equal(wrong.message, "Invalid login credentials");
  assert.equal(unknown.message, wrong.message);
  const weak = await fails(
    auth.signUp({ email: address(), password: "short" }), 422, "weak_password", "AuthWeakPasswordError",
  );
  assert.deepEqual(weak.reasons, ["length"]);
  await fails(auth.signUp({ email: "no address", password: PASSWORD }), 400, "validation_failed");
  await fails(auth.signUp({ email: address(), password: "x".repeat(3000) }), 400, "validation_failed");
  await fails(auth.signUp({ email: address(), password: "" }), 400, "validation_failed");
  await fails(auth.signUp({ phone: "+4912345678", password: PASSWORD }), 400, "phone_provider_disabled");
  assert.deepEqual(auth.events.filter((event) => event !== "INITIAL_SESSION"), []);
  assert.equal((await ok(auth.getSession())).session, null);
}

/** Refreshing changes the tokens, not the session; a lost answer and racing tabs are forgiven. */
export async function refreshing() {
  const { auth, user, session: first } = await member();
  const { session: second } = await ok(auth.refreshSession());
  assert.ok(auth.events.includes("TOKEN_REFRESHED"));
  assert.notEqual(second.refresh_token, first.refresh_token);
  assert.equal(second.user.id, user.id);
  const [before, after] = [claimsOf(first.access_token), claimsOf(second.access_token)];
  assert.equal(after.session_id, before.session_id);
  assert.deepEqual(after.amr, before.amr);

  // The parent again: its answer may have been lost.
  const { session: retried } = await ok(open().refreshSession({ refresh_token: first.refresh_token }));
  assert.equal(retried.refresh_token, second.refresh_token);

  // Twenty tabs at once, each with what was stored.
  const tabs = Array.from({ length: 20 }, () => open().refreshSession({ refresh_token: second.refresh_token }));
  const answers = await Promise.all(tabs.map(ok));
  const tokens = new Set(answers.map(({ session }) => session.refresh_token));
  assert.equal(tokens.size, 1);
  const [third] = tokens;
  assert.notEqual(third, second.refresh_token);
  assert.ok(await ok(open().refreshSession({ refresh_token: third })));
  // One client's parallel calls as well.
  const racing = open();
  await ok(racing.setSession(first));
  const together = await Promise.all([1, 2, 3].map(() => racing.refreshSession()));
  assert.ok(together.every(({ error }) => error === null));
}

/** Bad refresh tokens; a spent one outside the interval is theft (this gateway has no interval). */
export async function theft() {
  const { auth, session: first } = await member();
  const second = (await ok(auth.refreshSession())).session;
  const third = (await ok(auth.refreshSession())).session;
  // The parent of the current one is no theft, at any age.
  const retried = (await ok(open().refreshSession({ refresh_token: second.refresh_token }))).session;
  assert.equal(retried.refresh_token, third.refresh_token);
  await ok(auth.getUser());

  const thief = open();
  const reuse = () => thief.refreshSession({ refresh_token: first.refresh_token });
  await fails(reuse(), 400, "refresh_token_already_used");
  await fails(open().refreshSession({ refresh_token: third.refresh_token }), 400, "refresh_token_not_found");
  await sessionMissing(auth.getUser());
  assert.equal((await ok(auth.getSession())).session, null);

  const { session } = await member();
  const spoiled = `${session.refresh_token.slice(0, -2)}${session.refresh_token.endsWith("AA") ? "BB" : "AA"}`;
  const strange = open();
  await fails(strange.refreshSession({ refresh_token: "short" }), 400, "validation_failed");
  await fails(open().refreshSession({ refresh_token: "no token at all, but long enough for one" }), 400, "validation_failed");
  const { error } = await open().refreshSession({ refresh_token: spoiled });
  assert.ok(["validation_failed", "refresh_token_not_found"].includes(error.code), error.code);
  await fails(open().refreshSession({ refresh_token: session.access_token }), 400, "validation_failed");
  // Well-formed, but nobody's: the form of the first version.
  await fails(open().refreshSession({ refresh_token: "abcdefghij12" }), 400, "refresh_token_not_found");
}

/** `setSession` with a live token asks for the user, with an expired one it refreshes. */
export async function setting() {
  const { session } = await member();
  const live = open();
  await ok(live.setSession(session));
  assert.ok(live.events.includes("SIGNED_IN"));
  assert.deepEqual(live.requests, ["GET /auth/v1/user 200"]);

  const late = open();
  const expired = forged(session.access_token, { exp: Math.floor(Date.now() / 1000) - 60 });
  const set = await ok(late.setSession({ access_token: expired, refresh_token: session.refresh_token }));
  assert.ok(late.events.includes("TOKEN_REFRESHED"));
  assert.deepEqual(late.requests, ["POST /auth/v1/token?grant_type=refresh_token 200"]);
  assert.notEqual(set.session.refresh_token, session.refresh_token);
  // A live one that nobody signed.
  const bad = forged(session.access_token, { email: "eve@mail.example" });
  await fails(open().setSession({ access_token: bad, refresh_token: session.refresh_token }), 403, "bad_jwt");
}

/** Claims are checked by the published keys, without a question to the gateway where they can be. */
export async function claims() {
  const { auth, user, session } = await member();
  auth.requests.length = 0;
  const answer = await ok(auth.getClaims());
  assert.equal(answer.claims.sub, user.id);
  assert.equal(answer.header.alg, given.algorithm);
  const shared = given.algorithm === "HS256";
  const asked = shared ? "GET /auth/v1/user 200" : "GET /auth/v1/.well-known/jwks.json 200";
  assert.deepEqual(auth.requests, [asked]);
  await ok(auth.getClaims());
  assert.equal(auth.requests.length, shared ? 2 : 1);

  const bad = forged(session.access_token, { email: "eve@mail.example" });
  const { error } = await open().getClaims(bad);
  assert.ok(error, "a forged token has claims");
  const expired = forged(session.access_token, { exp: 1 });
  assert.equal((await open().getClaims(expired)).error.name, "AuthInvalidJwtError");
  const keys = (await raw("GET", "/.well-known/jwks.json", { key: null })).body.keys;
  assert.equal(keys.length, shared ? 0 : 1);
  for (const key of keys) assert.deepEqual([key.use, key.alg, key.d], ["sig", given.algorithm, undefined]);
}

/** The three scopes of signing out. */
export async function scopes() {
  const { auth: phone, email } = await member();
  const { auth: laptop } = await signedIn(email);
  const { auth: tablet } = await signedIn(email);
  const lives = async (auth) => ok(auth.getUser());
  const token = async (auth) => (await auth.getSession()).data.session;

  const spent = await token(phone);
  await ok(phone.signOut({ scope: "local" }).then((answer) => ({ data: null, ...answer })));
  await sessionMissing(open().getUser(spent.access_token));
  await fails(open().refreshSession({ refresh_token: spent.refresh_token }), 400, "refresh_token_not_found");
  await lives(laptop);
  await lives(tablet);

  const others = await tablet.getSession();
  assert.equal((await laptop.signOut({ scope: "others" })).error, null);
  assert.ok(!laptop.events.includes("SIGNED_OUT"));
  await lives(laptop);
  await sessionMissing(open().getUser(others.data.session.access_token));

  const { auth: again } = await signedIn(email);
  const held = await token(again);
  assert.equal((await laptop.signOut()).error, null);
  await sessionMissing(open().getUser(held.access_token));

  // Right after a global log-out a new session works; a second log-out of a dead one is none's business.
  const { auth: fresh, session } = await signedIn(email);
  await lives(fresh);
  assert.equal((await raw("POST", "/logout?scope=sideways", { bearer: session.access_token })).status, 400);
  const first = await raw("POST", "/logout", { bearer: session.access_token });
  assert.deepEqual([first.status, first.body], [204, null]);
  const second = await raw("POST", "/logout", { bearer: session.access_token });
  assert.ok([204, 401, 403].includes(second.status));
  assert.equal((await fresh.signOut()).error, null);
}
