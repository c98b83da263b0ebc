// The npm `eventsource` client against one gateway: prints what it saw as one JSON object.
import { createRequire } from "node:module";

const modules = createRequire(process.env.OUTSIDE_NODE_MODULES + "/");
const { EventSource } = modules("eventsource");
const [url, scenario, token] = process.argv.slice(2);

const withToken = (input, init) => fetch(input, { ...init, headers: { ...init.headers, token } });
const scenarios = {
  header: () => stream(new EventSource(`${url}/sse?count=3`, { fetch: withToken })),
  query: () => stream(new EventSource(`${url}/sse?count=3&token=${token}`)),
  status: () => failure(new EventSource(`${url}/sse?token=${token}`)),
  event: () => refusal(new EventSource(`${url}/sse/messages?token=${token}`)),
};

function stream(source) {
  const seen = { opened: false, events: [] };
  source.onopen = () => (seen.opened = true);
  return new Promise((resolve, reject) => {
    for (const name of ["start", "progress", "complete"]) {
      source.addEventListener(name, () => {
        seen.events.push(name);
        if (name === "complete") {
          source.close();
          resolve(seen);
        }
      });
    }
    source.onerror = (error) => reject(new Error(`${error.code} ${error.message}`));
  });
}

function failure(source) {
  return new Promise((resolve) => {
    source.onerror = (error) => {
      source.close();
      resolve({ code: error.code });
    };
  });
}

function refusal(source) {
  return new Promise((resolve) => {
    source.addEventListener("auth_error", (event) => {
      source.close();
      resolve({ data: event.data });
    });
  });
}

console.log(JSON.stringify(await scenarios[scenario]()));
