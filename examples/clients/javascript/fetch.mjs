// A client of the token API with nothing but fetch and EventSource, for browsers and Node.
//
//   portcullis demo                                    # in another shell
//   node examples/clients/javascript/fetch.mjs http://127.0.0.1:8080
//
// Node has no EventSource of its own before 22: `npm install eventsource` there.

export class Client {
  #url;
  #tokens = null;
  #refreshing = null;

  constructor(url) {
    this.#url = url;
  }

  async register(username, email, password) {
    return this.#call("/auth/register", { username, email, password });
  }

  async logIn(username, password) {
    this.#tokens = await this.#call("/auth/login", { username, password });
  }

  /** Ends the session here and at the gateway, with its tokens and streams. */
  async logOut() {
    await this.fetch("/auth/logout", { method: "POST" });
    this.#tokens = null;
  }

  /** As `fetch`, with the access token. A 401 is answered by one refresh and one more try, so `body` must be no stream. */
  async fetch(path, init = {}) {
    const used = this.#tokens;
    const response = await this.#send(path, init);
    if (response.status !== 401 || !used) return response;
    await response.body?.cancel();
    await this.#refresh(used);
    return this.#send(path, init);
  }

  /** A POST that is answered by an event stream: yields `{ event, data }`. Leaving the loop ends the upstream's work. */
  async *stream(path, body) {
    const headers = { "content-type": "application/json" };
    const response = await this.fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw await failure(response);
    let rest = "";
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      const events = (rest + piece).split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const text of events) {
        const field = (name) =>
          text.split(/\r?\n/).filter((line) => line.startsWith(name + ":")).map((line) => line.slice(name.length + 1).replace(/^ /, ""));
        // What has no data is a comment, which keeps the line warm.
        if (field("data").length) yield { event: field("event")[0] ?? "message", data: field("data").join("\n") };
      }
    }
  }

  /**
   * A GET by EventSource, which can neither set a header nor read a status: a ticket in the query stands for the token, so
   * that no token is in a URL, and a refusal comes as an event (`on_reject = "event"` at the route). A stream that breaks
   * off reconnects with its ticket by itself. Gives a function that closes it.
   */
  async events(path, listeners, { retry = true } = {}) {
    const used = this.#tokens;
    let close = () => source.close();
    const headers = { "content-type": "application/json" };
    const asked = await this.fetch("/_portcullis/tickets", { method: "POST", headers, body: JSON.stringify({ path }) });
    if (!asked.ok) throw await failure(asked);
    const { ticket } = await asked.json();
    const source = new EventSource(`${this.#url}${path}?ticket=${ticket}`);
    for (const [name, listener] of Object.entries(listeners)) source.addEventListener(name, listener);
    for (const name of ["auth_error", "auth_expired"]) {
      source.addEventListener(name, async () => {
        source.close();
        if (!retry || !used) return;
        try {
          await this.#refresh(used);
        } catch {
          return;
        }
        close = await this.events(path, listeners, { retry: name === "auth_expired" });
      });
    }
    return () => close();
  }

  /** A WebSocket; the token goes in as a subprotocol, which the service does not see. */
  socket(path) {
    return new WebSocket(this.#url.replace(/^http/, "ws") + path, ["bearer", this.#tokens.access_token]);
  }

  async #call(path, body) {
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(this.#url + path, init);
    if (!response.ok) throw await failure(response);
    return response.json();
  }

  #send(path, init) {
    const headers = new Headers(init.headers);
    if (this.#tokens) headers.set("authorization", `Bearer ${this.#tokens.access_token}`);
    return fetch(this.#url + path, { ...init, headers });
  }

  /** New tokens in place of `used`; calls that fail together refresh once. */
  async #refresh(used) {
    if (this.#tokens !== used) return;
    this.#refreshing ??= this.#renew().finally(() => (this.#refreshing = null));
    await this.#refreshing;
  }

  async #renew() {
    try {
      this.#tokens = await this.#call("/auth/refresh", { refresh_token: this.#tokens.refresh_token });
    } catch (error) {
      // The session has ended. Anything else (503, no network) leaves the user signed in: try again later.
      if (error.status === 401) this.#tokens = null;
      throw error;
    }
  }
}

async function failure(response) {
  const { detail, msg } = await response.json().catch(() => ({}));
  return Object.assign(new Error(detail ?? msg ?? response.statusText), { status: response.status });
}

/** What one does with it. */
export async function main(url, print = console.log) {
  const name = `user-${crypto.randomUUID().slice(0, 8)}`;
  const client = new Client(url);
  await client.register(name, `${name}@example.com`, "correct horse battery");
  await client.logIn(name, "correct horse battery");
  print("me", await (await client.fetch("/auth/me")).json());
  for await (const { event, data } of client.stream("/api/v1/faceflip/generate/stream", { prompt: "hills", steps: 5, delay_ms: 20 })) {
    print(event, data.slice(0, 60));
  }
  await new Promise((done) => {
    const closing = client.events("/api/v1/events", {
      tick: async ({ data }) => {
        print("tick", data);
        (await closing)();
        done();
      },
    });
  });
  await client.logOut();
  print("after log-out", (await client.fetch("/api/v1/whoami")).status);
}

if (globalThis.process?.argv[1] === import.meta.filename) {
  globalThis.EventSource ??= (await import("eventsource")).EventSource;
  await main(process.argv[2] ?? "http://127.0.0.1:8080");
}
