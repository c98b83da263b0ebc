// Links: those in mails, invitations, and those that an administrator makes.
import { PASSWORD, address, assert, fails, given, mailTo, mailsTo, member, ok, open, raw, signedIn } from "./client.mjs";

/** Where a link leads, and what stands behind its `#`. */
async function follow(query, method = "GET") {
  const link = `${given.url}/auth/v1/verify?${new URLSearchParams(query)}`;
  const answer = await fetch(link, { method, redirect: "manual" });
  const [place, fragment] = (answer.headers.get("location") ?? "").split("#");
  return { status: answer.status, headers: answer.headers, place, found: Object.fromEntries(new URLSearchParams(fragment)) };
}

/** The link of a mail opens a session in the application. */
export async function following() {
  const { email, user } = await member();
  await ok(open().resetPasswordForEmail(email, { redirectTo: "https://app.example/reset?a=1" }));
  const mail = await mailTo(email);
  const query = { token_hash: mail.token_hash, type: "recovery", redirect_to: mail.redirect_to };
  // A scanner that only looks uses nothing up.
  assert.equal((await follow(query, "HEAD")).status, 200);
  const { status, headers, place, found } = await follow(query);
  assert.deepEqual([status, place], [303, "https://app.example/reset?a=1"]);
  assert.deepEqual([headers.get("cache-control"), headers.get("referrer-policy")], ["no-store", "no-referrer"]);
  assert.deepEqual([found.token_type, found.type, found.expires_in], ["bearer", "recovery", "3600"]);
  const auth = open();
  const { session } = await ok(auth.setSession(found));
  assert.equal(session.user.id, user.id);
  await ok(auth.updateUser({ password: "remembered this time" }));
  await signedIn(email, "remembered this time");
  const again = await follow(query);
  assert.deepEqual([again.status, again.place], [303, "https://app.example/reset?a=1"]);
  assert.deepEqual([again.found.error, again.found.error_code], ["access_denied", "otp_expired"]);
  assert.ok(again.found.error_description && !("access_token" in again.found));
}

/** What is no link, and places where none may lead. */
export async function refused() {
  const elsewhere = [
    "https://evil.example", "https://app.example.evil.example", "https://app.example@evil.example", "//evil.example", "/\\evil.example",
    "javascript:alert(1)", "https://app.example\\@evil.example", "http://app.example", "https://app.example/\r\nset-cookie: a=b", "",
  ];
  for (const redirect_to of elsewhere) {
    const { email } = await member();
    await ok(open().resetPasswordForEmail(email, { redirectTo: redirect_to }));
    const mail = await mailTo(email);
    assert.ok(!("redirect_to" in mail), redirect_to);
    const { status, headers, place, found } = await follow({ token_hash: mail.token_hash, type: "recovery", redirect_to });
    // The operator's own first place in its stead.
    assert.deepEqual([status, place, headers.get("set-cookie")], [303, "https://app.example", null], redirect_to);
    assert.ok(found.access_token);
  }
  const { place } = await follow({ token: "nonsense", type: "recovery", redirect_to: "myapp://in/now#old" });
  assert.equal(place, "myapp://in/now");
  for (const type of ["signup", "invite", "magiclink", "recovery", "email", "email_change"]) {
    const { found } = await follow({ token: "nonsense", type });
    assert.deepEqual([found.error, found.error_code], ["access_denied", "otp_expired"], type);
  }
  for (const query of [{}, { type: "recovery" }, { token: "x" }, { token: "x", type: "sideways" }, { token: "", type: "signup" }]) {
    const { status, headers } = await follow(query);
    assert.deepEqual([status, headers.get("location")], [400, null], JSON.stringify(query));
  }
  // What one link was made for no other opens.
  const { email } = await member();
  await ok(open().resetPasswordForEmail(email));
  const { token_hash } = await mailTo(email);
  for (const type of ["signup", "invite", "magiclink", "email", "email_change"]) {
    assert.equal((await follow({ token_hash, type })).found.error_code, "otp_expired", type);
  }
  assert.ok((await follow({ token_hash, type: "recovery" })).found.access_token);
}

/** Somebody is asked in. */
export async function inviting() {
  const { admin } = open(given.service);
  const email = address("invited");
  const data = { team: "red", is_admin: true };
  const { user } = await ok(admin.inviteUserByEmail(email, { data, redirectTo: "https://app.example/welcome" }));
  assert.deepEqual([user.email, user.user_metadata.team, user.email_confirmed_at], [email, "red", undefined]);
  assert.ok(user.confirmation_sent_at && !user.user_metadata.is_admin);
  await fails(open().signInWithPassword({ email, password: PASSWORD }), 400, "invalid_credentials");
  const first = await mailTo(email);
  // Again: another mail, the same user, and the first one is good no more.
  assert.equal((await ok(admin.inviteUserByEmail(email))).user.id, user.id);
  const mail = await mailTo(email, 1);
  assert.equal((await follow({ token_hash: first.token_hash, type: "invite" })).found.error_code, "otp_expired");
  const { found } = await follow({ token_hash: mail.token_hash, type: "invite", redirect_to: "https://app.example/welcome" });
  const auth = open();
  const { session } = await ok(auth.setSession(found));
  assert.equal(session.user.id, user.id);
  assert.ok(session.user.email_confirmed_at);
  await ok(auth.updateUser({ password: PASSWORD }));
  await signedIn(email);
  await fails(admin.inviteUserByEmail(email), 422, "email_exists");
  await fails(admin.inviteUserByEmail("nobody"), 400, "validation_failed");
  await fails(open().admin.inviteUserByEmail(address()), 403, "not_admin");
  await fails(auth.admin.inviteUserByEmail(address()), 403, "not_admin");
  assert.equal(mailsTo(email).length, 2);
  const none = await raw("POST", "/invite", { key: given.service, bearer: given.service, body: {} });
  assert.deepEqual([none.status, none.body.code], [400, "validation_failed"]);
}

/** Links that an administrator sends itself. */
export async function generating() {
  const { admin } = open(given.service);
  const lead = async (made) => follow(Object.fromEntries(new URL(made.properties.action_link).searchParams));
  const email = address("linked");
  const up = await ok(admin.generateLink({ type: "signup", email, password: PASSWORD, options: { data: { name: "Ada" } } }));
  assert.deepEqual([up.user.email, up.user.user_metadata.name], [email, "Ada"]);
  assert.ok(up.properties.action_link.startsWith(`${given.issuer}/verify?token=`));
  assert.deepEqual([up.properties.verification_type, up.properties.redirect_to], ["signup", "https://app.example"]);
  assert.match(up.properties.email_otp, /^\d{6}$/);
  assert.ok((await lead(up)).found.access_token);
  await signedIn(email);
  await fails(admin.generateLink({ type: "signup", email, password: PASSWORD }), 422, "email_exists");
  await fails(admin.generateLink({ type: "invite", email }), 422, "email_exists");
  const weak = await admin.generateLink({ type: "signup", email: address(), password: "short" });
  assert.equal(weak.error?.name, "AuthWeakPasswordError");
  await fails(admin.generateLink({ type: "signup", email: address() }), 400, "validation_failed");

  const magic = await ok(admin.generateLink({ type: "magiclink", email, options: { redirectTo: "https://evil.example" } }));
  assert.deepEqual([magic.user.id, magic.properties.redirect_to], [up.user.id, "https://app.example"]);
  const byHash = await ok(open().verifyOtp({ token_hash: magic.properties.hashed_token, type: "magiclink" }));
  assert.equal(byHash.user.id, up.user.id);
  // Of nobody yet: a new user.
  const fresh = await ok(admin.generateLink({ type: "magiclink", email: address("fresh") }));
  assert.equal(fresh.properties.verification_type, "signup");
  assert.ok((await lead(fresh)).found.access_token);
  const invited = await ok(admin.generateLink({ type: "invite", email: address("guest") }));
  assert.equal((await lead(invited)).found.type, "invite");

  const recovery = await ok(admin.generateLink({ type: "recovery", email }));
  const { email_otp } = recovery.properties;
  assert.ok((await ok(open().verifyOtp({ email, token: email_otp, type: "recovery" }))).session);
  await fails(admin.generateLink({ type: "recovery", email: address("nobody") }), 404, "user_not_found");

  const newEmail = address("renamed");
  const renaming = await ok(admin.generateLink({ type: "email_change_new", email, newEmail }));
  assert.deepEqual([renaming.user.email, renaming.user.new_email], [email, newEmail]);
  const { found } = await lead(renaming);
  assert.equal((await ok(open().setSession(found))).user.email, newEmail);
  await signedIn(newEmail);
  const taken = await ok(admin.generateLink({ type: "magiclink", email: newEmail }));
  assert.equal(taken.user.id, up.user.id);
  await fails(admin.generateLink({ type: "email_change_new", email: newEmail, newEmail }), 422, "email_exists");
  await fails(admin.generateLink({ type: "email_change_new", email: newEmail }), 400, "validation_failed");
  await fails(admin.generateLink({ type: "email_change_current", email: newEmail, newEmail: address() }), 400, "validation_failed");
  await fails(admin.generateLink({ type: "sideways", email }), 400, "validation_failed");
  await fails(open().admin.generateLink({ type: "magiclink", email }), 403, "not_admin");

  // A password that somebody chose for an address that is not theirs opens nothing once its owner is in.
  const claimed = address("claimed");
  await ok(admin.createUser({ email: claimed, password: PASSWORD }));
  const owner = await ok(admin.generateLink({ type: "invite", email: claimed }));
  assert.ok((await lead(owner)).found.access_token);
  await fails(open().signInWithPassword({ email: claimed, password: PASSWORD }), 400, "invalid_credentials");
  // Nothing of all this was mailed.
  assert.equal(mailsTo(email).length + mailsTo(newEmail).length + mailsTo(claimed).length, 0);
}
