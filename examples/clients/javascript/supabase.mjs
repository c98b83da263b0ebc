// A page or a program that signs in with supabase-js against the gateway's Supabase API.
//
//   npm install @supabase/supabase-js
//   portcullis demo                                    # in another shell
//   node examples/clients/javascript/supabase.mjs http://127.0.0.1:8080

import { createClient } from "@supabase/supabase-js";

/** Calls services behind the gateway as whoever is signed in. */
export class Service {
  constructor(url, supabase) {
    this.url = url;
    this.supabase = supabase;
  }

  /** As `fetch`. supabase-js refreshes tokens before they expire; a 401 is answered by one refresh and one more try. */
  async fetch(path, init = {}) {
    const { data: { session } } = await this.supabase.auth.getSession();
    const response = await this.#send(path, init, session);
    if (response.status !== 401 || !session) return response;
    await response.body?.cancel();
    const { data, error } = await this.supabase.auth.refreshSession();
    if (error) throw error;
    return this.#send(path, init, data.session);
  }

  #send(path, init, session) {
    const headers = new Headers(init.headers);
    if (session) headers.set("authorization", `Bearer ${session.access_token}`);
    return fetch(this.url + path, { ...init, headers });
  }
}

/** What one does with it. */
export async function main(url, key, print = console.log) {
  // A gateway without `anon_keys` takes any key. Node before 22 has no WebSocket, which supabase-js asks for.
  const supabase = createClient(url, key, { realtime: { transport: globalThis.WebSocket ?? class {} } });
  const service = new Service(url, supabase);
  const email = `user-${crypto.randomUUID().slice(0, 8)}@example.com`;
  const password = "correct horse battery";

  // A visitor first; the same user, with the same id, once there is an e-mail.
  const visitor = await done(supabase.auth.signInAnonymously());
  const { user } = await done(supabase.auth.updateUser({ email, password }));
  print("same user", visitor.user.id === user.id);

  await done(supabase.auth.signInWithPassword({ email, password }));
  const init = { method: "POST", headers: { "content-type": "application/json" }, body: '{"prompt":"hills","steps":5,"delay_ms":20}' };
  const response = await service.fetch("/api/v1/faceflip/generate/stream", init);
  for await (const line of lines(response)) print(line.slice(0, 60));

  const { data } = await supabase.auth.getClaims();
  print("claims", data.claims.email);
  await done(supabase.auth.signOut());
  print("after sign-out", (await service.fetch("/api/v1/whoami")).status);
}

/** The lines of an event stream that say something. A piece of the network ends anywhere, also within a line. */
async function* lines(response) {
  let rest = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + piece).split(/\r?\n/);
    rest = whole.pop();
    yield* whole.filter((line) => line !== "");
  }
}

async function done(answer) {
  const { data, error } = await answer;
  if (error) throw error;
  return data;
}

if (globalThis.process?.argv[1] === import.meta.filename) {
  await main(process.argv[2] ?? "http://127.0.0.1:8080", process.argv[3] ?? "any");
}
