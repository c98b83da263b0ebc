// Everything that goes by mail: recovery, links, confirmation. The mail hook writes to a file.
import { PASSWORD, address, assert, claimsOf, fails, given, mailTo, mailsTo, member, ok, open, raw, sessionMissing, signedIn } from "./client.mjs";

/** A forgotten password. */
export async function recovery() {
  const { email, user } = await member();
  await ok(open().resetPasswordForEmail(email, { redirectTo: "https://app.example/reset" }));
  await ok(open().resetPasswordForEmail(address("nobody")));
  const mail = await mailTo(email);
  assert.match(mail.code, /^\d{6}$/);
  // Again within the minute: the same answer, no other mail.
  await ok(open().resetPasswordForEmail(email));

  const auth = open();
  const other = mail.code === "000000" ? "000001" : "000000";
  await fails(auth.verifyOtp({ email, token: other, type: "recovery" }), 403, "otp_expired");
  await fails(auth.verifyOtp({ email: address("nobody"), token: mail.code, type: "recovery" }), 403, "otp_expired");
  const { session } = await ok(auth.verifyOtp({ email, token: mail.code, type: "recovery" }));
  assert.equal(session.user.id, user.id);
  assert.equal(claimsOf(session.access_token).amr[0].method, "otp");
  assert.ok(auth.events.includes("PASSWORD_RECOVERY"));
  await ok(auth.updateUser({ password: "remembered this time" }));
  await signedIn(email, "remembered this time");
  // Good once.
  await fails(open().verifyOtp({ email, token: mail.code, type: "recovery" }), 403, "otp_expired");
  assert.equal(mailsTo(email).filter((one) => one.kind === mail.kind).length, 1);
}

/** A code or a link in place of a password. */
export async function magic() {
  const { email, user } = await member();
  await ok(open().signInWithOtp({ email, options: { shouldCreateUser: false } }));
  const mail = await mailTo(email);
  const byCode = await ok(open().verifyOtp({ email, token: mail.code, type: "email" }));
  assert.equal(byCode.user.id, user.id);

  const { email: second } = await member();
  await ok(open().signInWithOtp({ email: second }));
  const link = await mailTo(second);
  const byLink = await ok(open().verifyOtp({ token_hash: link.token_hash, type: "email" }));
  assert.equal(byLink.user.email, second);
  await fails(open().verifyOtp({ token_hash: link.token_hash, type: "email" }), 403, "otp_expired");
  await fails(open().verifyOtp({ token_hash: "nonsense", type: "email" }), 403, "otp_expired");
  const sideways = await raw("POST", "/verify", { body: { email, token: "123456", type: "sideways" } });
  assert.deepEqual([sideways.status, sideways.body.code], [400, "validation_failed"]);
}

/** Where an address must be confirmed before the first log-in. */
export async function confirmation() {
  const email = address();
  const auth = open();
  const { user, session } = await ok(auth.signUp({ email, password: PASSWORD, options: { data: { name: "Ada" } } }));
  assert.equal(session, null);
  assert.ok(user.confirmation_sent_at);
  assert.ok(!("email_confirmed_at" in user) && !("confirmed_at" in user));
  assert.ok(!auth.events.includes("SIGNED_IN"));
  await fails(auth.signInWithPassword({ email, password: PASSWORD }), 400, "email_not_confirmed");
  await fails(auth.signInWithPassword({ email, password: "not this one" }), 400, "invalid_credentials");
  const mail = await mailTo(email);
  const { data } = await auth.resend({ type: "signup", email });
  assert.ok(data);
  const verified = await ok(auth.verifyOtp({ email, token: mail.code, type: "signup" }));
  assert.equal(verified.user.id, user.id);
  assert.ok(verified.user.email_confirmed_at);
  assert.equal(verified.user.user_metadata.email_verified, true);
  assert.equal(verified.user.user_metadata.name, "Ada");
  await signedIn(email);

  // Somebody else learns nothing: a user that looks new, and no session.
  const stranger = await ok(open().signUp({ email, password: "another password", options: { data: { name: "Eve" } } }));
  assert.equal(stranger.session, null);
  assert.notEqual(stranger.user.id, user.id);
  assert.deepEqual(Object.keys(stranger.user).sort(), Object.keys(user).sort());
  assert.equal(stranger.user.identities.length, user.identities.length);
  assert.equal(stranger.user.user_metadata.name, "Eve");
  await fails(open().signInWithPassword({ email, password: "another password" }), 400, "invalid_credentials");
  // An anonymous one has nothing to confirm.
  assert.ok((await ok(open().signInAnonymously())).session);
}

/** A code before something that matters. */
export async function reauthenticating() {
  const { auth, email } = await member();
  await ok(auth.reauthenticate());
  const mail = await mailTo(email);
  assert.match(mail.code, /^\d{6}$/);
  const nobody = open();
  await ok(nobody.signInAnonymously());
  await fails(nobody.reauthenticate(), 400, "validation_failed");
  await sessionMissing(open().reauthenticate());
  assert.ok(given.url);
}
