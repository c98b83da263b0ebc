// Users who change themselves; anonymous ones who become permanent.
import { PASSWORD, address, assert, claimsOf, fails, given, mailTo, member, ok, open, raw, sessionMissing, signedIn } from "./client.mjs";

/** Data and password. */
export async function updating() {
  const { auth, email, session } = await member(address(), { name: "Ada", plan: "free" });
  const { user } = await ok(auth.updateUser({ data: { plan: "pro", name: null, tags: ["a"] } }));
  const { email_verified: _, is_admin: __, ...kept } = user.user_metadata;
  assert.deepEqual(kept, { plan: "pro", tags: ["a"] });
  assert.ok(auth.events.includes("USER_UPDATED"));
  const refreshed = (await ok(auth.refreshSession())).session;
  assert.equal(claimsOf(refreshed.access_token).user_metadata.plan, "pro");

  await fails(auth.updateUser({ password: PASSWORD }), 422, "same_password");
  const weak = await fails(auth.updateUser({ password: "short" }), 422, "weak_password", "AuthWeakPasswordError");
  assert.deepEqual(weak.reasons, ["length"]);
  const bearer = refreshed.access_token;
  const grab = await raw("PUT", "/user", { bearer, body: { app_metadata: { roles: ["admin"] } } });
  assert.deepEqual([grab.status, grab.body.code], [403, "not_admin"]);
  const role = await raw("PUT", "/user", { bearer, body: { role: "service_role", is_admin: true } });
  assert.deepEqual([role.status, role.body.role], [200, "authenticated"]);

  // Another password ends the other sessions, not this one.
  const { auth: other } = await signedIn(email);
  await ok(auth.updateUser({ password: "a new one altogether" }));
  await ok(auth.getUser());
  await ok(auth.refreshSession());
  await sessionMissing(other.getUser());
  await fails(open().signInWithPassword({ email, password: PASSWORD }), 400, "invalid_credentials");
  await signedIn(email, "a new one altogether");
  assert.ok(session.access_token);
}

/** Another address counts once its owner has said so. */
export async function changingEmail() {
  const { auth, email } = await member();
  const { email: taken } = await member();
  const wanted = address("new");
  const { user } = await ok(auth.updateUser({ email: wanted }));
  assert.deepEqual([user.email, user.new_email], [email, wanted]);
  assert.ok(user.email_change_sent_at);
  await fails(auth.updateUser({ email: taken }), 422, "email_exists");
  await fails(auth.updateUser({ email: "no address" }), 400, "validation_failed");
  const mail = await mailTo(wanted);
  await fails(open().verifyOtp({ email: wanted, token: "12", type: "email_change" }), 403, "otp_expired");
  const verified = await ok(open().verifyOtp({ token_hash: mail.token_hash, type: "email_change" }));
  assert.equal(verified.user.email, wanted);
  assert.ok(!("new_email" in verified.user));
  await signedIn(wanted);
  await fails(open().signInWithPassword({ email, password: PASSWORD }), 400, "invalid_credentials");
}

/** Without credentials, then with: the same user. */
export async function anonymous() {
  const auth = open();
  const { user, session } = await ok(auth.signInAnonymously({ options: { data: { theme: "dark" } } }));
  assert.deepEqual([user.email, user.phone, user.is_anonymous, user.role], ["", "", true, "authenticated"]);
  assert.deepEqual([user.app_metadata, user.identities], [{}, []]);
  assert.equal(user.user_metadata.theme, "dark");
  const claims = claimsOf(session.access_token);
  assert.deepEqual([claims.is_anonymous, claims.amr[0].method, claims.email], [true, "anonymous", ""]);
  await ok(auth.refreshSession());
  await fails(auth.updateUser({ password: PASSWORD }), 422, "validation_failed");
  const { email: taken } = await member();
  await fails(auth.updateUser({ email: taken }), 422, "email_exists");

  const email = address("anon");
  const upgraded = (await ok(auth.updateUser({ email, password: PASSWORD }))).user;
  assert.deepEqual([upgraded.id, upgraded.email, upgraded.is_anonymous], [user.id, email, false]);
  assert.deepEqual(upgraded.app_metadata, { provider: "email", providers: ["email"] });
  assert.equal(upgraded.identities[0].provider, "email");
  assert.equal(upgraded.user_metadata.theme, "dark");
  const fresh = (await ok(auth.refreshSession())).session;
  const renewed = claimsOf(fresh.access_token);
  assert.deepEqual([renewed.sub, renewed.is_anonymous, renewed.email], [user.id, false, email]);
  assert.equal((await signedIn(email)).user.id, user.id);
  // Two of them are two.
  assert.notEqual((await ok(open().signInAnonymously())).user.id, (await ok(open().signInAnonymously())).user.id);
}

/** Where sign-ups and anonymous sign-ins are off. */
export async function closed() {
  await fails(open().signUp({ email: address(), password: PASSWORD }), 422, "signup_disabled");
  await fails(open().signInAnonymously(), 422, "anonymous_provider_disabled");
  const settings = (await raw("GET", "/settings")).body;
  assert.deepEqual([settings.disable_signup, settings.external.anonymous_users], [true, false]);
  const { user } = await ok(
    open(given.service).admin.createUser({ email: address(), password: PASSWORD, email_confirm: true }),
  );
  await signedIn(user.email);
  // A code does not make a user either.
  const stranger = address("stranger");
  await ok(open().signInWithOtp({ email: stranger, options: { shouldCreateUser: false } }));
}

/** What the client offers around a user: what needs no server goes, what this one has not is refused readably. */
export async function around() {
  const { auth, user, session } = await member();
  const { identities } = await ok(auth.getUserIdentities());
  assert.deepEqual(identities, user.identities);
  assert.ok(Object.values(await ok(auth.mfa.listFactors())).every((factors) => factors.length === 0));
  const level = await ok(auth.mfa.getAuthenticatorAssuranceLevel());
  assert.deepEqual([level.currentLevel, level.nextLevel], ["aal1", "aal1"]);
  assert.equal(level.currentAuthenticationMethods[0].method, "password");
  await fails(auth.mfa.enroll({ factorType: "totp" }), 404, "not_found");
  await fails(auth.unlinkIdentity(identities[0]), 404, "not_found");
  await fails(open().signInWithSSO({ domain: "mail.example" }), 404, "not_found");
  await fails(open().signInWithOtp({ phone: "+4912345678" }), 400, "phone_provider_disabled");
  await fails(open().signInWithPassword({ phone: "+4912345678", password: PASSWORD }), 400, "phone_provider_disabled");
  await fails(auth.updateUser({ phone: "+4912345678" }), 400, "phone_provider_disabled");
  await fails(open(given.service).admin.mfa.listFactors({ userId: user.id }), 404, "not_found");
  // None of it has cost the session.
  assert.equal((await ok(auth.getSession())).session.access_token, session.access_token);
  await ok(auth.getUser());
}
