// Asks the host. The token stays in this tab (`sessionStorage`), goes into a header, and never into an address.

import { change, notify, state } from "./state.js";

const EVERY_MS = 1000;
const HIDDEN_EVERY_MS = 5000;
const LOST_EVERY_MS = 2000;
const ANSWER_WITHIN_MS = 8000;

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem("millstream.token"),
  by: () => sessionStorage.getItem("millstream.by") ?? "",
  set(value, by) {
    sessionStorage.setItem("millstream.token", value);
    sessionStorage.setItem("millstream.by", by);
  },
  drop: () => sessionStorage.removeItem("millstream.token"),
};

/** An answer as JSON; throws `Refused` with the host's own words. */
export async function ask(path, { method = "GET", body, shown = token.get(), within = ANSWER_WITHIN_MS } = {}) {
  const headers = {};
  if (shown) headers.authorization = `Bearer ${shown}`;
  // A header takes Latin letters only; a name in another script is left out rather than the request.
  if (shown && /^[\x20-\x7e]+$/.test(token.by())) headers["millstream-by"] = token.by();
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(`/api/v1/${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(within),
    cache: "no-store",
  });
  const said = await answer.json().catch(() => null);
  if (answer.ok && said !== null) return said;
  throw new Refused(answer.status, said?.error ?? `the host answered ${answer.status}`);
}

let soon = null;

/** Looks again now. */
export function look() {
  clearTimeout(soon);
  soon = null;
  poll();
}

let asking = false;

async function poll() {
  if (asking) return;
  asking = true;
  let wait = document.hidden ? HIDDEN_EVERY_MS : EVERY_MS;
  try {
    const said = await ask("overview");
    const since = state.connection.is === "live" ? state.connection.since : Date.now();
    change({
      overview: said.overview,
      access: said.access,
      ahead: said.overview.now - Date.now(),
      connection: { is: "live", since, why: "" },
    });
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      wait = refused(error) ? 0 : LOST_EVERY_MS;
    } else {
      const before = state.connection;
      const since = before.is === "lost" ? before.since : Date.now();
      const why = error instanceof Refused ? error.message : "";
      change({ connection: { is: "lost", since, why } });
      wait = LOST_EVERY_MS;
    }
  }
  asking = false;
  clearTimeout(soon);
  soon = setTimeout(poll, wait);
}

/** Whether it is worth asking again at once: without the token that was refused. */
function refused(error) {
  if (token.get()) {
    token.drop();
    notify("The token is not this host's: it was started again, or has another. Enter it anew to write.", "warning");
    return true;
  }
  change({ overview: null, connection: { is: "locked", since: Date.now(), why: error.message } });
  return false;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
