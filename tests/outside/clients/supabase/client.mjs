// The unmodified supabase-js against one gateway, and the few words in which the scenarios speak.
import assert from "node:assert/strict";
import { readFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";

const modules = createRequire(process.env.OUTSIDE_NODE_MODULES + "/");
const { createClient } = modules("@supabase/supabase-js");

/** What the test said: url, anon, service, mails. */
export const given = JSON.parse(process.argv[3]);
export { assert };

export const PASSWORD = "correct horse battery";

// Node before 22 has no WebSocket, which the client asks for although nothing here uses it.
class NoSocket {}

/** A client with a storage of its own, as one tab or device; `events` are those it told, `requests` what it asked. */
export function open(key = given.anon, options = {}) {
  const stored = new Map();
  const storage = {
    getItem: (name) => stored.get(name) ?? null,
    setItem: (name, value) => stored.set(name, value),
    removeItem: (name) => stored.delete(name),
  };
  const requests = [];
  const watched = async (input, init) => {
    const url = new URL(input);
    const answer = await fetch(input, init);
    requests.push(`${init?.method ?? "GET"} ${url.pathname}${url.search} ${answer.status}`);
    return answer;
  };
  const client = createClient(given.url, key, {
    auth: { storage, storageKey: randomUUID(), autoRefreshToken: false, ...options },
    realtime: { transport: NoSocket },
    global: { fetch: watched },
  });
  const events = [];
  client.auth.onAuthStateChange((event) => void events.push(event));
  return Object.assign(client.auth, { events, requests, stored });
}

/** Its data; an error fails the test. */
export async function ok(answer) {
  const { data, error } = await answer;
  assert.equal(error, null);
  return data;
}

/** Its error, which must be this one. */
export async function fails(answer, status, code, name = "AuthApiError") {
  const { error } = await answer;
  assert.ok(error, `${code} was expected`);
  assert.deepEqual([error.status, error.code, error.name], [status, code, name], error.message);
  return error;
}

/** What the client makes of `session_not_found`. */
export async function sessionMissing(answer) {
  const { error } = await answer;
  assert.equal(error?.name, "AuthSessionMissingError", String(error));
}

/** An address that nobody has. */
export const address = (name = "ada") => `${name}-${randomUUID().slice(0, 8)}@mail.example`;

/** A client that has just registered. */
export async function member(email = address(), options = {}) {
  const auth = open();
  const data = await ok(auth.signUp({ email, password: PASSWORD, options: { data: options } }));
  return { auth, email, ...data };
}

/** A client that has signed in. */
export async function signedIn(email, password = PASSWORD) {
  const auth = open();
  const data = await ok(auth.signInWithPassword({ email, password }));
  return { auth, email, ...data };
}

/** A request of our own, with the headers that the client would send. */
export async function raw(method, path, { body, key = given.anon, bearer, headers = {} } = {}) {
  const answer = await fetch(`${given.url}/auth/v1${path}`, {
    method,
    headers: {
      ...(key === null ? {} : { apikey: key }),
      ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      "content-type": "application/json;charset=UTF-8",
      "x-supabase-api-version": "2024-01-01",
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text === "" ? null : JSON.parse(text) };
}

/** The claims of a token, unverified. */
export const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

/** The same token with other claims, so with a signature that is none. */
export function forged(token, change) {
  const [header, , signature] = token.split(".");
  const claims = Buffer.from(JSON.stringify({ ...claimsOf(token), ...change })).toString("base64url");
  return `${header}.${claims}.${signature}`;
}

/** The mails to an address that the hook wrote, the oldest first. */
export function mailsTo(email) {
  if (!existsSync(given.mails)) return [];
  const lines = readFileSync(given.mails, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line)).filter((mail) => mail.to === email);
}

/** The newest mail to an address, when it is there. */
export async function mailTo(email, after = 0) {
  for (let tries = 0; tries < 200; tries += 1) {
    const mails = mailsTo(email);
    if (mails.length > after) return mails.at(-1);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail(`no mail to ${email}`);
}
