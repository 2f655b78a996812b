// Dead letters: what lies there and why, one shown in full, and put back behind a confirmation.

import { ask } from "./api.js";
import { h, icon } from "./dom.js";
import { confirmChange } from "./dialogs.js";
import { KINDS } from "./failures.js";
import { openLetter } from "./letter.js";
import { empty } from "./partitions.js";
import { change, go, now, passes, pipelines, state } from "./state.js";
import { ago, count, many, time, visible } from "./words.js";

const LOOK_AGAIN_MS = 5000;
const LISTED = 200;

/** What was asked last: for which pipeline and kind, and what came. */
let listing = { of: "", asked: 0, asking: false, depth: -1, said: null, error: "" };

export function chosenPipeline() {
  const all = state.overview?.pipelines ?? [];
  const depth = (p) => p.dead_letters.reduce((sum, d) => sum + d.depth, 0);
  return all.find((p) => p.pipeline === state.pipeline) ?? [...all].sort((a, b) => depth(b) - depth(a))[0];
}

/** Asks for the listing when it is old, or the topic has changed. */
function refresh(p, chosen) {
  const depth = p.dead_letters.reduce((sum, d) => sum + d.depth, 0);
  const of = `${encodeURIComponent(p.pipeline)}/dead-letters?${new URLSearchParams({ ...chosen, limit: LISTED })}`;
  if (listing.of !== of) listing = { of, asked: 0, asking: false, depth: -1, said: null, error: "" };
  const due = Date.now() - listing.asked >= LOOK_AGAIN_MS || (depth !== listing.depth && Date.now() - listing.asked >= 1000);
  if (listing.asking || !due) return;
  const mine = listing;
  Object.assign(mine, { asking: true, depth });
  ask(`pipelines/${of}`, { within: 30000 })
    .then((said) => Object.assign(mine, { said, error: "" }), (error) => Object.assign(mine, { error: error.message }))
    .finally(() => {
      Object.assign(mine, { asking: false, asked: Date.now() });
      change();
    });
}

export function letters() {
  const p = chosenPipeline();
  if (!p) return empty("This host has no pipeline", "");
  const asked = new URLSearchParams(location.hash.split("?")[1] ?? "");
  const kind = asked.get("kind") ?? "";
  const of = STATES[asked.get("state")] ? asked.get("state") : "open";
  const chosen = { ...(kind ? { kind } : {}), ...(of === "open" ? {} : { state: of }) };
  const job = state.overview.jobs.find((one) => one.pipeline === p.pipeline && one.action !== "rollback");
  if (job?.state !== ended) {
    // What a job did is to be seen at once.
    ended = job?.state;
    listing.asked = 0;
  }
  refresh(p, chosen);
  return [
    job ? progress(job) : null,
    listing.error ? h("p", { class: "trouble" }, icon("warning", "warn"), h("span", {}, `The dead letters could not be listed: ${listing.error}`)) : null,
    listing.said ? [states(p, of, kind, listing.said.states), listed(p, kind, of, chosen, listing.said, job)] : listing.error ? null : h("div", { class: "loading", role: "status" }, "Reading the dead letters…"),
  ];
}

const STATES = { open: "Open", parked: "Parked", redriven: "Put back", purged: "Given up" };
let ended;

/** What became of them, as tabs. */
function states(p, of, kind, counts) {
  return h("div", { class: "states", role: "group", "aria-label": "What became of them" }, Object.entries(STATES).map(([name, title]) =>
    h("button", { type: "button", "aria-pressed": String(name === of), onclick: () => go("letters", p.pipeline, { ...(kind ? { kind } : {}), ...(name === "open" ? {} : { state: name }) }) },
      title, h("b", { class: "num" }, count(counts[name])))));
}

function listed(p, kind, of, chosen, said, job) {
  if (!said.total && of !== "open") return empty({ parked: "None is parked", redriven: "None was put back", purged: "None was given up" }[of], of === "parked" ? "A letter that was put back too often and failed again would be here." : "");
  if (!said.total && !kind) {
    const topics = p.dead_letters.map((d) => d.topic).join(", ");
    return empty(`${p.pipeline} has no open dead letters`, `What is out of attempts or refused would lie in ${topics}.`);
  }
  const running = job?.state === "running";
  const shown = said.letters.filter((l) => passes(l.kind, l.reason, l.topic, `${l.topic}[${l.partition}]@${l.offset}`));
  return [
    h("section", { class: "reasons panel", "aria-label": "By reason" },
      h("header", {}, h("h2", {}, many(said.total, "dead letter")), kind ? h("span", { class: "pill" }, kind, h("button", { type: "button", class: "plain", "aria-label": "Show all kinds", onclick: () => go("letters", p.pipeline, of === "open" ? {} : { state: of }) }, icon("close"))) : null,
        of === "open" || of === "parked" ? h("span", { class: "acts" },
          h("button", { type: "button", class: "give-up", disabled: running || !said.total, onclick: (e) => confirmChange("purge", p, chosen, e.currentTarget) }, "Give up…"),
          h("button", { type: "button", class: "primary", disabled: running || !said.total, onclick: (e) => confirmChange("redrive", p, chosen, e.currentTarget) }, icon("back"), kind ? `Put all ${kind} back…` : "Put all back…")) : null),
      h("ul", {}, said.groups.slice(0, 12).map((g) => h("li", { key: `${g.kind} ${g.reason} ${g.plugin_version}` },
        h("b", { class: "num" }, count(g.count)),
        h("span", { class: `kind ${g.kind}`, title: KINDS[g.kind] ?? "" }, g.kind),
        h("span", { class: "reason data", title: visible(g.reason) }, visible(g.reason) || "(it gave no reason)"),
        h("span", { class: "of num" }, [g.plugin_version ? `plugin ${g.plugin_version} · ` : "", `last ${ago(g.last, now())}`]),
        kind ? null : h("button", { type: "button", class: "see", "aria-label": `Show those of kind ${g.kind}`, onclick: () => go("letters", p.pipeline, { ...chosen, kind: g.kind }) }, "Show"))),
        said.groups.length > 12 || said.ungrouped ? h("li", { class: "more" }, `and ${many(Math.max(said.groups.length - 12, 0) + (said.ungrouped ? 1 : 0), "other reason")}`) : null)),
    shown.length ? h("div", { class: "scroll" }, h("table", { class: "rows letters" },
      h("caption", { class: "unseen" }, "Dead letters; Enter opens one"),
      h("thead", {}, h("tr", {}, ["Letter", "Failed", "Reason", "Attempts", "Put back", "When"].map((name, i) => h("th", { scope: "col", class: i === 3 || i === 4 ? "n" : "" }, name)))),
      h("tbody", {}, shown.map((l, i) => h("tr", { key: `${l.topic} ${l.partition} ${l.offset}`, class: "opens", onclick: (e) => openLetter(p, shown, i, e.currentTarget.querySelector("button")) },
        h("th", { scope: "row" }, h("button", { type: "button", class: "link name" }, `${l.partition}/${l.offset}`, p.dead_letters.length > 1 ? h("small", {}, l.topic) : null)),
        h("td", { "data-name": "Failed" }, h("span", { class: `kind ${l.kind}` }, l.kind)),
        h("td", { class: "reason", "data-name": "Reason" }, h("span", { class: "data" }, visible(l.reason) || "(it gave no reason)")),
        h("td", { class: "n num", "data-name": "Attempts" }, count(l.attempts)),
        h("td", { class: "n num", "data-name": "Put back" }, l.redrives ? `${count(l.redrives)} ×` : "–"),
        h("td", { class: "num", "data-name": "When", title: new Date(l.appended).toISOString() }, time(l.appended, now()))))))) : h("p", { class: "nothing" }, "No letter passes the filter."),
    said.total > said.letters.length ? h("p", { class: "more num" }, `${count(said.letters.length)} of ${count(said.total)} are listed, by partition and offset; all are counted above.`) : null,
  ];
}

function progress(job) {
  const share = job.total ? Math.min(1, job.read / job.total) : 0;
  if (job.state === "running") {
    return h("div", { class: "job running", role: "status" },
      h("p", {}, h("b", {}, job.action === "purge" ? "Giving up: " : "Putting back: "), h("span", { class: "num" }, `${many(job.done, "letter")} so far, ${count(job.read)} of ${count(job.total)} looked at`), h("small", {}, `begun by ${visible(job.by)} ${ago(job.begun, now())}; it goes on when this page is closed`)),
      h("progress", { max: "1", value: String(share) }));
  }
  // What ended is news for a while.
  if (now() - job.ended > 10 * 60e3) return null;
  const failed = job.state === "failed";
  const report = job.report ?? {};
  const did = job.action === "purge" ? "given up" : "put back";
  const rest = [report.parked && `${count(report.parked)} parked`, report.left && `${count(report.left)} left where they are`, report.foreign && `${count(report.foreign)} not this pipeline's`, report.refused && `${count(report.refused)} refused by the log`].filter(Boolean);
  return h("div", { class: `job ${failed ? "bad" : "ok"}`, role: "status" }, icon(failed ? "critical" : "ok", failed ? "bad" : "ok"),
    h("p", {}, failed
      ? [h("b", {}, `Not all were ${did}: `), h("span", { class: "data" }, visible(job.error ?? "")), ` ${many(job.done, "letter")} went; the rest are still here.`]
      : [h("b", { class: "num" }, `${many(job.done, "letter")} ${did}`), rest.length ? `, ${rest.join(", ")}` : ""],
      h("small", {}, `by ${visible(job.by)} ${ago(job.ended, now())}`)));
}
