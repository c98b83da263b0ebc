// Administering users with a service key; the keys themselves.
import { PASSWORD, address, assert, claimsOf, fails, given, member, ok, open, raw, sessionMissing, signedIn } from "./client.mjs";
import { randomUUID } from "node:crypto";

const admin = () => open(given.service).admin;
const NOBODY = "11111111-2222-4333-8444-555555555555";

/** Making, reading, changing. */
export async function users() {
  const service = admin();
  const email = address();
  const attributes = { email, password: PASSWORD, user_metadata: { name: "Ada" }, app_metadata: { roles: ["editor"] } };
  const { user } = await ok(service.createUser({ ...attributes, email_confirm: true }));
  assert.deepEqual(user.app_metadata, { provider: "email", providers: ["email"], roles: ["editor"] });
  assert.equal(user.user_metadata.name, "Ada");
  assert.ok(user.email_confirmed_at && !("last_sign_in_at" in user));
  await fails(service.createUser(attributes), 422, "email_exists");
  await fails(service.createUser({ email: "no address" }), 400, "validation_failed");
  await fails(service.createUser({ email: address(), password: "x".repeat(3000) }), 400, "validation_failed");
  // The rules for passwords are for users.
  await ok(service.createUser({ email: address(), password: "weak" }));
  const own = randomUUID();
  assert.equal((await ok(service.createUser({ id: own, email: address() }))).user.id, own);
  assert.deepEqual((await ok(service.getUserById(user.id))).user, user);
  await fails(service.getUserById(NOBODY), 404, "user_not_found");
  await fails(service.updateUserById(NOBODY, { email: address() }), 404, "user_not_found");

  const { auth, session } = await signedIn(email);
  assert.deepEqual(claimsOf(session.access_token).app_metadata.roles, ["editor"]);
  const changed = (await ok(service.updateUserById(user.id, {
    app_metadata: { roles: ["editor", "admin"], team: 7 }, user_metadata: { name: null, nick: "a" },
  }))).user;
  assert.deepEqual(changed.app_metadata, { provider: "email", providers: ["email"], roles: ["editor", "admin"], team: 7 });
  assert.ok(!("name" in changed.user_metadata) && changed.user_metadata.nick === "a");
  // Roles follow at the next refresh.
  const fresh = (await ok(auth.refreshSession())).session;
  assert.deepEqual(claimsOf(fresh.access_token).app_metadata.roles, ["editor", "admin"]);
  const moved = address("moved");
  assert.equal((await ok(service.updateUserById(user.id, { email: moved }))).user.email, moved);
  const { email: taken } = await member();
  await fails(service.updateUserById(user.id, { email: taken }), 422, "email_exists");
  // Another password ends every session.
  await ok(service.updateUserById(user.id, { password: "set by the admin" }));
  await sessionMissing(auth.getUser());
  await signedIn(moved, "set by the admin");
  const unconfirmed = (await ok(service.createUser({ email: address(), password: PASSWORD }))).user;
  assert.ok(!("email_confirmed_at" in unconfirmed));
  const confirmed = (await ok(service.updateUserById(unconfirmed.id, { email_confirm: true }))).user;
  assert.ok(confirmed.email_confirmed_at);
}

/** Lists by pages. */
export async function lists() {
  const service = admin();
  for (let made = 0; made < 5; made += 1) await ok(service.createUser({ email: address(`page${made}`) }));
  const first = await ok(service.listUsers({ page: 1, perPage: 2 }));
  assert.equal(first.users.length, 2);
  assert.equal(first.aud, "authenticated");
  assert.equal(first.nextPage, 2);
  assert.ok(first.total >= 5 && first.lastPage >= 3);
  assert.equal(first.lastPage, Math.ceil(first.total / 2));
  assert.ok(first.users[0].email.startsWith("page4") && first.users[1].email.startsWith("page3"));
  const second = await ok(service.listUsers({ page: 2, perPage: 2 }));
  assert.ok(second.users[0].email.startsWith("page2"));
  const last = await ok(service.listUsers({ page: first.lastPage, perPage: 2 }));
  assert.equal(last.nextPage, null);
  const beyond = await ok(service.listUsers({ page: first.lastPage + 1, perPage: 2 }));
  assert.deepEqual(beyond.users, []);
  // The client sends both empty then.
  const all = await ok(service.listUsers());
  assert.equal(all.users.length, Math.min(all.total, 50));
  await fails(service.listUsers({ page: 0 }), 400, "validation_failed");
  await fails(service.listUsers({ page: "x" }), 400, "validation_failed");
  await fails(service.listUsers({ perPage: -1 }), 400, "validation_failed");
}

/** Banned users can do nothing, until they can again. */
export async function bans() {
  const service = admin();
  const { auth, email, user, session } = await member();
  const banned = (await ok(service.updateUserById(user.id, { ban_duration: "24h" }))).user;
  assert.ok(Date.parse(banned.banned_until) > Date.now() + 23 * 3600_000);
  await fails(auth.getUser(), 403, "user_banned");
  await fails(open().refreshSession({ refresh_token: session.refresh_token }), 400, "user_banned");
  await fails(open().signInWithPassword({ email, password: PASSWORD }), 400, "user_banned");
  // Only who knows the password is told.
  await fails(open().signInWithPassword({ email, password: "not this one" }), 400, "invalid_credentials");
  await fails(service.updateUserById(user.id, { ban_duration: "soon" }), 400, "validation_failed");
  const free = (await ok(service.updateUserById(user.id, { ban_duration: "none" }))).user;
  assert.ok(!("banned_until" in free));
  await ok(auth.getUser());
  await ok(open().refreshSession({ refresh_token: session.refresh_token }));
}

/** Deleted for good, and softly. */
export async function deletion() {
  const service = admin();
  const { email, user, session } = await member();
  await ok(service.deleteUser(user.id));
  await fails(service.getUserById(user.id), 404, "user_not_found");
  await fails(open().getUser(session.access_token), 403, "user_not_found");
  await fails(open().refreshSession({ refresh_token: session.refresh_token }), 400, "refresh_token_not_found");
  await fails(open().signInWithPassword({ email, password: PASSWORD }), 400, "invalid_credentials");
  assert.notEqual((await member(email)).user.id, user.id);
  assert.equal((await raw("DELETE", `/admin/users/${user.id}`, { key: given.service, bearer: given.service })).status, 404);

  const soft = await member();
  await ok(service.deleteUser(soft.user.id, true));
  const left = (await ok(service.getUserById(soft.user.id))).user;
  assert.ok(left.deleted_at);
  assert.notEqual(left.email, soft.email);
  assert.ok(!JSON.stringify(left).includes(soft.email));
  const { error } = await open().getUser(soft.session.access_token);
  assert.ok(["AuthSessionMissingError", "AuthApiError"].includes(error.name));
  await fails(open().signInWithPassword({ email: soft.email, password: PASSWORD }), 400, "invalid_credentials");
  assert.notEqual((await member(soft.email)).user.id, soft.user.id);
}

/** Whoever is no admin. */
export async function strangers() {
  const { user, session } = await member();
  await fails(open().admin.listUsers(), 403, "not_admin");
  await fails(open().admin.getUserById(user.id), 403, "not_admin");
  const listed = (options) => raw("GET", "/admin/users", options);
  const answers = {
    none: await listed({}),
    user: await listed({ bearer: session.access_token }),
    "user with a service key": await listed({ key: given.service, bearer: session.access_token }),
    nonsense: await listed({ key: given.service, bearer: "nonsense" }),
    "the echo": await listed({ key: given.service, bearer: given.service }),
    "the key alone": await listed({ key: given.service }),
  };
  const told = Object.entries(answers).map(([name, { status, body }]) => [name, status, body.code]);
  assert.deepEqual(told, [
    ["none", 403, "not_admin"],
    ["user", 403, "not_admin"],
    ["user with a service key", 403, "not_admin"],
    ["nonsense", 403, "bad_jwt"],
    ["the echo", 200, undefined],
    ["the key alone", 200, undefined],
  ]);
  // An admin may sign somebody out with that one's token.
  assert.equal((await admin().signOut(session.access_token, "global")).error, null);
  await sessionMissing(open().getUser(session.access_token));
}

/** The API keys. */
export async function keys() {
  const { session } = await member();
  const health = (options) => raw("GET", "/health", options);
  const missing = await health({ key: null });
  assert.deepEqual([missing.status, missing.body], [401, { message: "No API key found in request" }]);
  for (const key of ["nonsense", `${given.anon}x`, given.anon.slice(0, -1), session.access_token]) {
    const answer = await health({ key });
    assert.deepEqual([answer.status, answer.body], [401, { message: "Invalid API key" }]);
  }
  const { error } = await open("sb_publishable_nobody_knows_this_one").signInWithPassword({ email: "a@b.example", password: PASSWORD });
  assert.deepEqual([error.status, error.message], [401, "Invalid API key"]);
  const query = await fetch(`${given.url}/auth/v1/health?apikey=${encodeURIComponent(given.anon)}`);
  assert.equal(query.status, 200);
  assert.equal((await raw("GET", "/.well-known/jwks.json", { key: null })).status, 200);
  for (const key of [...given.anons, ...given.services]) assert.equal((await health({ key })).status, 200);
  for (const key of given.services) await ok(open(key).admin.listUsers());
  for (const key of given.anons) await fails(open(key).admin.listUsers(), 403, "not_admin");
}
