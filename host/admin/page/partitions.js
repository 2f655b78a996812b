// Partitions: how far each is behind, why it waits, and the keys that take it up.

import { h, icon } from "./dom.js";
import { passes, pipelines } from "./state.js";
import { count, duration, many, percent, visible } from "./words.js";

const SHOWN_MAX = 300;

export function partitions() {
  const all = pipelines().flatMap((p) => p.partitions.map((one) => ({ ...one, pipeline: p.pipeline, name: `${one.topic}[${one.partition}]` })));
  const shown = all.filter((one) => passes(one.pipeline, one.name, why(one)[0]));
  shown.sort((a, b) => rank(b) - rank(a) || b.lag - a.lag || a.name.localeCompare(b.name, "en", { numeric: true }));
  if (!all.length) return empty("No partition is assigned to this host", "On Kafka other hosts of the group have them all, or the group is being rearranged.");
  return [
    pipelines().map(strip),
    shown.length ? table(shown.slice(0, SHOWN_MAX)) : empty("No partition passes the filter", "Clear it with Esc."),
    shown.length > SHOWN_MAX ? h("p", { class: "more" }, `${count(shown.length - SHOWN_MAX)} more: filter for those you mean.`) : null,
    hotKeys(shown),
  ];
}

/** What stands still goes before what is behind. */
function rank(one) {
  return one.held_up ? 2 + one.held_up.seconds : one.started ? 0 : 1;
}

function why(one) {
  if (!one.started) return ["is being restored", "warn"];
  if (one.held_up) return [`waits for ${one.held_up_text}`, one.held_up.seconds >= 300 ? "bad" : "warn"];
  if (one.paused_lanes) return [`${many(one.paused_lanes, "lane")} paused by the plugin`, "warn"];
  if (one.waiting_keys) return [`${many(one.waiting_keys, "key")} wait for a retry`, "note"];
  if (one.lag && one.in_flight) return ["handling", ""];
  if (one.lag) return ["reading", ""];
  return ["caught up", "ok"];
}

/** One bar for each partition: high is far behind. The words are in the table. */
function strip(p) {
  const most = Math.max(...p.partitions.map((one) => one.lag), 1);
  return h("section", { class: "strip", key: p.pipeline, "aria-label": `Lag of the partitions of ${p.pipeline}` },
    h("h2", {}, p.pipeline, h("span", { class: "sub num" }, `${many(p.partitions.length, "partition")} here · ${count(p.lag)} behind · ${p.lag ? `caught up in ${duration(p.drains_in_seconds)} at this pace` : "caught up"}`)),
    h("div", { class: "columns" }, p.partitions.map((one) => {
      const [text, kind] = why(one);
      const height = one.lag ? Math.max(8, Math.round((Math.log10(1 + one.lag) / Math.log10(1 + most)) * 100)) : 3;
      return h("div", { class: `column ${kind}`, title: `${one.topic}[${one.partition}]: ${count(one.lag)} behind, ${text}` }, h("span", { style: { height: `${height}%` } }), h("i", {}, String(one.partition)));
    })));
}

function table(rows) {
  return h("div", { class: "scroll" }, h("table", { class: "rows partitions" },
    h("caption", { class: "unseen" }, "Partitions, those that stand still first"),
    h("thead", {}, h("tr", {}, ["Partition", "State", "Behind", "Oldest", "In flight", "Retries", "Waiting", "Committed", "Done in"].map((name, i) =>
      h("th", { scope: "col", class: i > 1 ? "n" : "" }, name)))),
    h("tbody", {}, rows.map((one) => {
      const [text, kind] = why(one);
      return h("tr", { key: `${one.pipeline} ${one.name}`, class: kind },
        h("th", { scope: "row" }, h("span", { class: "name" }, one.name)),
        h("td", { "data-name": "State" }, h("span", { class: `why ${kind}` }, kind === "bad" ? icon("critical", "bad") : kind === "warn" ? icon("warning", "warn") : kind === "ok" ? icon("ok", "ok") : null,
          h("span", {}, text, one.held_up ? h("small", {}, [`for ${duration(one.held_up.seconds)}`, one.held_up.offset !== null ? `, at offset ${count(one.held_up.offset)}` : ""]) : null))),
        cell("Behind", count(one.lag), one.lag ? "strong" : ""),
        cell("Oldest", one.lag ? duration(one.oldest_seconds) : "–"),
        cell("In flight", count(one.in_flight)),
        cell("Retries", count(one.retries)),
        cell("Waiting", count(one.waiting_messages)),
        cell("Committed", String(one.committed)),
        cell("Done in", one.lag ? (one.drains_in_seconds >= 86400 ? "> 1 d" : duration(one.drains_in_seconds)) : "–"));
    }))));
}

function cell(name, value, kind = "") {
  return h("td", { class: `n num ${kind}`, "data-name": name }, value);
}

function hotKeys(rows) {
  const hot = rows.flatMap((one) => one.hot_keys.map((key) => ({ ...key, name: one.name, share: Math.max(key.of_attempts, key.of_time) })));
  hot.sort((a, b) => b.share - a.share);
  return h("section", { class: "panel hot", "aria-label": "Hot keys" },
    h("header", {}, h("h2", {}, "Hot keys"), h("p", { class: "promise" }, "Keys with the largest share of their partition in the last minutes. A key is handled one message at a time.")),
    hot.length
      ? h("ol", {}, hot.slice(0, 12).map((key) => h("li", {},
          h("span", { class: "key data", title: visible(key.key) }, visible(key.key) || "(no key)"),
          h("span", { class: "of" }, key.name),
          h("span", { class: "meter", role: "img", "aria-label": `${percent(key.of_attempts)} of attempts, ${percent(key.of_time)} of time` },
            h("span", { class: key.share >= 0.5 ? "warn" : "", style: { width: `${Math.round(key.share * 100)}%` } })),
          h("span", { class: "num share" }, `${percent(key.of_attempts)} of attempts`, h("small", {}, `${percent(key.of_time)} of time`)))))
      : h("p", { class: "nothing" }, "No key stands out, or there were too few attempts to say."));
}

export function empty(head, text) {
  return h("div", { class: "empty" }, icon("ok", "ok"), h("h2", {}, head), text ? h("p", {}, text) : null);
}
