// Failures: what attempts fail of, those alike together, what happens now first.

import { h } from "./dom.js";
import { bars } from "./lines.js";
import { empty } from "./partitions.js";
import { change, go, now, passes, pipelines, state } from "./state.js";
import { ago, count, many, time, visible } from "./words.js";

const opened = new Set();

export const KINDS = {
  retry: "asked for a retry", reject: "refused", pause: "asked for a pause", trap: "crashed", timeout: "took too long", memory: "out of memory",
  oversize: "output too large", decode: "not understood", denied: "not allowed", "host-crash": "killed its host", foreign: "not this pipeline's", unknown: "unknown",
};

export function failures() {
  const all = pipelines().flatMap((p) => p.failures.map((f) => ({ ...f, pipeline: p.pipeline })));
  if (!all.length) return empty("No attempt has failed", "Since this host was started. Dead letters of before are still where they lie.");
  const shown = all.filter((f) => passes(f.pipeline, f.kind, f.reason, f.topic));
  const lately = (f) => f.minutes.slice(-2).reduce((sum, n) => sum + n, 0);
  shown.sort((a, b) => lately(b) - lately(a) || b.last - a.last);
  if (!shown.length) return empty("No failure passes the filter", "Clear it with Esc.");
  const named = new Set(all.map((f) => f.pipeline)).size > 1 || !state.pipeline;
  return h("ul", { class: "failures", "aria-label": "Failures" }, shown.map((f) => failure(f, named, lately(f))));
}

function failure(f, named, lately) {
  const key = `${f.pipeline} ${f.kind} ${f.first} ${f.reason.replace(/\d+/g, "0").slice(0, 80)}`;
  const reason = visible(f.reason) || "(it gave no reason)";
  const long = reason.length > 160 || reason.includes("\n");
  const open = opened.has(key);
  const isNow = lately > 0;
  return h("li", { key, class: `failure ${isNow ? "now" : "past"}` },
    h("div", { class: "main" },
      h("p", { class: "head" }, h("span", { class: `kind ${f.kind}` }, f.kind), h("span", { class: "of" }, KINDS[f.kind] ?? ""), named ? h("span", { class: "of" }, `in ${f.pipeline}`) : null),
      h("p", { class: `reason data ${open ? "open" : ""}` }, reason),
      long ? h("button", { type: "button", class: "link", "aria-expanded": String(open), onclick: () => { open ? opened.delete(key) : opened.add(key); change(); } }, open ? "Less" : "All of it") : null,
      h("p", { class: "last num" }, `last ${ago(f.last, now())}, attempt ${count(f.attempt)} of ${f.topic}[${f.partition}]@${f.offset}`)),
    h("div", { class: "over" },
      bars(f.minutes, `${many(f.count, "time")}; in each of the last 30 minutes: ${f.minutes.join(", ")}`),
      h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, "30 min ago"), h("span", {}, "now"))),
    h("div", { class: "counts num" },
      h("b", {}, count(f.count)), h("span", {}, f.count === 1 ? "time" : "times"),
      h("span", { class: "since" }, `since ${time(f.first, now())}`)),
    h("button", { type: "button", class: "see", onclick: () => go("letters", f.pipeline, { kind: f.kind }) }, "Dead letters"));
}
