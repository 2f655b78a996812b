// The audit trail: who changed what, newest first.

import { ask } from "./api.js";
import { h, icon } from "./dom.js";
import { empty } from "./partitions.js";
import { change, now, passes } from "./state.js";
import { time, visible } from "./words.js";

const LOOK_AGAIN_MS = 5000;
let trail = { asked: 0, asking: false, entries: null, error: "" };

function refresh() {
  if (trail.asking || Date.now() - trail.asked < LOOK_AGAIN_MS) return;
  trail.asking = true;
  ask("audit?limit=200")
    .then((said) => Object.assign(trail, { entries: said.entries, error: "" }), (error) => (trail.error = error.message))
    .finally(() => {
      Object.assign(trail, { asking: false, asked: Date.now() });
      change();
    });
}

const OUTCOMES = { begun: ["begun", ""], done: ["done", "ok"], refused: ["refused", "warn"], failed: ["failed", "bad"] };

export function audit() {
  refresh();
  if (trail.error) return h("p", { class: "trouble" }, icon("warning", "warn"), h("span", {}, `The audit trail could not be read: ${trail.error}`));
  if (!trail.entries) return h("div", { class: "loading", role: "status" }, "Reading the audit trail…");
  if (!trail.entries.length) return empty("Nothing was changed yet", "Deployments, letters that are put back, and every other write will be here, with who did it and what came of it.");
  const shown = trail.entries.filter((e) => passes(e.action ?? "", e.by ?? "", e.text ?? "", e.pipeline ?? "", e.unreadable ?? ""));
  if (!shown.length) return empty("No entry passes the filter", "Clear it with Esc.");
  return h("div", { class: "scroll" }, h("table", { class: "rows audit" },
    h("caption", { class: "unseen" }, "Audit trail, newest first"),
    h("thead", {}, h("tr", {}, ["When", "Who", "What", "Outcome", ""].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, shown.map((e) => {
      if (e.unreadable !== undefined) {
        return h("tr", { key: String(e.offset), class: "warn" }, h("td", { class: "num" }, time(e.at, now())), h("td", { colspan: "4", class: "data" }, `Unreadable: ${visible(e.unreadable)}`));
      }
      const [outcome, kind] = OUTCOMES[e.outcome] ?? [e.outcome, ""];
      return h("tr", { key: String(e.offset) },
        h("td", { class: "num", "data-name": "When", title: new Date(e.at).toISOString() }, time(e.at, now())),
        h("td", { class: "data", "data-name": "Who" }, visible(e.by)),
        h("td", { "data-name": "What" }, h("b", {}, visible(e.action)), e.pipeline ? h("span", { class: "of" }, visible(e.pipeline)) : null),
        h("td", { "data-name": "Outcome" }, h("span", { class: `pill ${kind}` }, kind ? icon(kind === "ok" ? "ok" : kind === "bad" ? "critical" : "warning") : null, outcome)),
        h("td", { class: "data text" }, visible(e.text)));
    }))));
}
