// The first page: what is wrong, since when, what can be done; then each pipeline with its flow.

import { h, icon } from "./dom.js";
import { flow } from "./flow.js";
import { sparkline } from "./lines.js";
import { go, now, pipelines, state } from "./state.js";
import { count, duration, lasting, many, percent, rate, time, visible } from "./words.js";

const SEVERITIES = { critical: "Critical", warning: "Warning", note: "Note" };
const SEE = { partitions: "See partitions", failures: "See failures", letters: "See dead letters", pipeline: null };

export function overview(width) {
  const all = pipelines();
  const names = new Set(all.map((p) => p.pipeline));
  const problems = state.overview.problems.filter((p) => names.has(p.pipeline));
  return [
    verdict(problems, all),
    problems.length ? h("ul", { class: "problems", "aria-label": "What is wrong" }, problems.map((p) => problem(p, all.length > 1))) : null,
    all.map((p) => panel(p, width)),
  ];
}

function verdict(problems, all) {
  const worst = problems[0]?.severity ?? "ok";
  const bad = problems.filter((p) => p.severity === "critical").length;
  const warned = problems.filter((p) => p.severity === "warning").length;
  const handled = all.reduce((sum, p) => sum + p.rates.done, 0);
  const behind = all.reduce((sum, p) => sum + p.lag, 0);
  const needs = problems.filter((p) => p.severity !== "note");
  const text = bad ? (bad === 1 ? "One thing is badly wrong" : `${bad} things are badly wrong`)
    : warned ? (warned === 1 ? "One thing needs a look" : `${warned} things need a look`)
    : "All is well";
  const since = needs.length ? Math.min(...needs.map((p) => p.since)) : null;
  const told = [bad && warned ? `${warned} more to look at` : null];
  const sub = [
    ...told,
    since ? `since ${time(since, now())}, for ${lasting(now() - since)}` : null,
    `${rate(handled)} handled`,
    behind ? `${count(behind)} behind` : "nothing behind",
  ].filter(Boolean).join(" · ");
  return h("div", { class: `verdict ${needs.length ? worst : "ok"}` },
    icon(needs.length ? worst : "ok", needs.length ? worst : "ok"),
    h("div", {}, h("h1", { id: "title" }, text), h("p", { class: "num" }, sub)));
}

function problem(p, named) {
  const see = SEE[p.view];
  return h("li", { key: `${p.pipeline} ${p.what.replace(/[\d,.]+/g, "")}`, class: `problem ${p.severity}` },
    icon(p.severity, p.severity),
    h("div", { class: "text" },
      h("p", { class: "head" }, h("span", { class: `tag ${p.severity}` }, SEVERITIES[p.severity]), named ? h("span", { class: "of" }, p.pipeline) : null,
        h("span", { class: "for num" }, `for ${lasting(now() - p.since)}`)),
      h("h2", {}, p.what),
      p.why ? h("p", { class: "why data" }, marked(visible(p.why))) : null,
      h("p", { class: "act" }, h("b", {}, "Do "), marked(p.act))),
    see ? h("button", { type: "button", class: "see", onclick: () => go(p.view, p.pipeline) }, see, icon("next")) : null);
}

/** What stands between backticks is a name of the configuration. */
function marked(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

function panel(p, width) {
  const failing = p.rates.failed / (p.rates.failed + p.rates.done || 1);
  const dead = p.dead_letters.reduce((sum, d) => sum + d.depth, 0);
  const h0 = p.history;
  const share = h0.failed.map((f, i) => f / (f + h0.done[i] || 1));
  const minutes = Math.round((h0.done.length * h0.every_seconds) / 60);
  const over = `the last ${many(Math.max(minutes, 1), "minute")}`;
  return h("section", { class: "panel", key: p.pipeline, "aria-label": `Pipeline ${p.pipeline}` },
    h("header", {},
      h("h2", {}, p.pipeline),
      stateOf(p),
      h("p", { class: "promise" }, `${p.delivery}, ${p.ordering} · group ${p.group}`)),
    p.trouble && !p.ready ? h("p", { class: "trouble" }, icon("warning", "warn"), h("span", { class: "data" }, visible(p.trouble))) : null,
    h("dl", { class: "figures" },
      figure("Handled", rate(p.rates.done), sparkline(h0.done, `Handled each second over ${over}`), p.rates.arriving ? `${rate(p.rates.arriving)} arriving` : "nothing arriving"),
      figure("Failing", percent(failing), sparkline(share, `Share of failed attempts over ${over}`, failing >= 0.05 ? "bad" : ""), p.rates.failed ? `${rate(p.rates.failed)} fail` : "no attempt fails", failing >= 0.05 ? "bad" : ""),
      figure("Behind", count(p.lag), sparkline(h0.lag, `Messages behind over ${over}`, p.oldest_seconds >= 30 ? "warn" : ""), p.lag ? `oldest waits ${duration(p.oldest_seconds)}` : "caught up", p.oldest_seconds >= 30 && p.lag ? "warn" : ""),
      figure("Slowest 1 %", duration(p.handling.p99_seconds), sparkline(h0.p99_seconds, `99th percentile of handling time over ${over}`, p.handling.p99_seconds >= p.plugin.time_limit_seconds / 2 ? "warn" : ""),
        `limit ${duration(p.plugin.time_limit_seconds)}`, p.handling.p99_seconds >= p.plugin.time_limit_seconds / 2 ? "warn" : ""),
      figure("Dead letters", count(dead), sparkline(h0.dead, `New dead letters each second over ${over}`, p.rates.dead ? "bad" : ""), p.rates.dead ? `${rate(p.rates.dead)} new` : "no new ones", p.rates.dead ? "bad" : "")),
    flow(p, Math.max(260, width)));
}

function figure(name, value, drawing, sub, kind = "") {
  return h("div", { class: `figure ${kind}` }, h("dt", {}, name), h("dd", {}, h("b", { class: "num" }, value), drawing, h("span", { class: "sub num" }, sub)));
}

export function stateOf(p) {
  if (p.stopped) return h("span", { class: "pill bad" }, icon("critical"), "stopped");
  if (!p.ready) return h("span", { class: "pill warn" }, icon("warning"), "not ready");
  return h("span", { class: "pill ok" }, icon("ok"), "running");
}
