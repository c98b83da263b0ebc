// Streams that live as long as their session, by unmodified npm clients: prints what was seen as one JSON object.
import { createRequire } from "node:module";

const modules = createRequire(process.env.OUTSIDE_NODE_MODULES + "/");
const { EventSource } = modules("eventsource");
const [url, scenario, token] = process.argv.slice(2);

async function ticketFor(path, bearer) {
  const headers = { authorization: `Bearer ${bearer}`, "content-type": "application/json" };
  const answer = await fetch(`${url}/_portcullis/tickets`, { method: "POST", headers, body: JSON.stringify({ path }) });
  return (await answer.json()).ticket;
}

const scenarios = {
  // The stream ends, the client asks for its URL again: the same ticket opens it again.
  async resume() {
    const ticket = await ticketFor("/sse", token);
    const source = new EventSource(`${url}/sse?count=2&ticket=${ticket}`);
    const seen = { opened: 0, users: [] };
    source.onopen = () => (seen.opened += 1);
    return new Promise((resolve) => {
      source.addEventListener("start", ({ data }) => {
        seen.users.push(JSON.parse(data).user_id);
        if (seen.users.length === 3) {
          source.close();
          resolve(seen);
        }
      });
      source.onerror = ({ code }) => code && resolve({ ...seen, code });
    });
  },
  // The stream of this URL, whose ticket may be in use still.
  async back() {
    const source = new EventSource(url + token);
    const seen = { opened: 0 };
    source.onopen = () => (seen.opened += 1);
    return new Promise((resolve) => {
      const end = (more) => resolve({ ...seen, ...more }, source.close());
      source.addEventListener("start", ({ data }) => end({ user: JSON.parse(data).user_id }));
      source.onerror = ({ code }) => code && end({ code });
    });
  },
  // The client refreshes as it always does, and the stream goes on past the end of its first token.
  refresh: () => pastItsFirstToken(false),
  // By its own timer, which looks every thirty seconds: nobody asks it to.
  timer: () => pastItsFirstToken(true),
};

async function pastItsFirstToken(autoRefreshToken) {
  const { createClient } = modules("@supabase/supabase-js");
  // Node before 22 has no WebSocket, which the client asks for although nothing here uses it.
  const realtime = { transport: class {} };
  const supabase = createClient(url, token, { auth: { autoRefreshToken, persistSession: false }, realtime });
  const email = `lives-${crypto.randomUUID()}@example.test`;
  const { data } = await supabase.auth.signUp({ email, password: "correct horse battery" });
  const first = data.session.expires_at;
  const bearer = (input, init) =>
    fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${data.session.access_token}` } });
  const source = new EventSource(`${url}/sse/endless/lives`, { fetch: bearer });
  const seen = { warned: 0, lived: false };
  if (autoRefreshToken) {
    seen.refreshed = 0;
    supabase.auth.onAuthStateChange((event) => (seen.refreshed += event === "TOKEN_REFRESHED"));
  }
  source.addEventListener("auth_expiring", async () => {
    seen.warned += 1;
    if (!autoRefreshToken) await supabase.auth.refreshSession();
  });
  return new Promise((resolve) => {
    source.addEventListener("tick", async () => {
      // Well past the first token's end, leeway included.
      if (Date.now() / 1000 < first + 4 || seen.lived) return;
      seen.lived = true;
      await supabase.auth.signOut();
    });
    source.addEventListener("auth_revoked", () => {
      source.close();
      resolve(seen);
    });
    source.addEventListener("auth_expired", () => {
      source.close();
      resolve({ ...seen, expired: true });
    });
  });
}

console.log(JSON.stringify(await scenarios[scenario]()));
