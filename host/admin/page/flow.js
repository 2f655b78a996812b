// A pipeline as its messages run: sources, plugin, outputs, retries, dead letters, with what goes over each arrow now.
// Boxes are HTML, so that long names end in dots and everything can be reached by keyboard; arrows are SVG beneath them.

import { h, icon } from "./dom.js";
import { go } from "./state.js";
import { count, digest, duration, many, rate, visible } from "./words.js";

const GAP = 16;
const BOX = 72;
const NARROW = 720;
const LISTED_MAX = 6;

/** The drawing for a width in pixels. */
export function flow(pipeline, width) {
  const plan = parts(pipeline);
  const placed = width < NARROW ? stacked(plan, width) : wide(plan, width);
  const label = `Flow of ${pipeline.pipeline}: ${plan.arrows.map((a) => `${a.from} to ${a.to}: ${a.label}${a.second ? `, ${a.second}` : ""}`).join("; ")}`;
  return h("div", { class: "flow", style: { height: `${placed.height}px` }, role: "group", "aria-label": label },
    h("svg", { class: "arrows", width: String(width), height: String(placed.height), "aria-hidden": "true" },
      h("defs", {}, ["calm", "warn", "bad", "idle"].map((kind) =>
        h("marker", { id: `head-${kind}`, class: kind, viewBox: "0 0 8 8", refX: "6.500", refY: "4", markerWidth: "7", markerHeight: "7", markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" },
          h("path", { d: "M0 0.500L7 4 0 7.500z" })))),
      placed.arrows.map(arrow),
    ),
    placed.boxes.map(box),
    placed.arrows.map((a) => h("div", { class: `onarrow ${a.kind} ${a.align ?? ""}`, "aria-hidden": "true", style: { left: `${a.lx}px`, top: `${a.ly}px` } },
      h("b", {}, a.label), a.second ? h("span", {}, a.second) : null)),
  );
}

/** What there is, without places. */
function parts(p) {
  const few = (list, text) => list.length <= LISTED_MAX ? list : [...list.slice(0, LISTED_MAX - 1), text(list.slice(LISTED_MAX - 1))];
  const sum = (list, name) => list.reduce((all, one) => all + one[name], 0);
  const sources = few(p.sources, (rest) => ({
    topic: `${rest.length} more topics`, arriving_per_second: sum(rest, "arriving_per_second"), lag: sum(rest, "lag"), partitions: sum(rest, "partitions"),
  }));
  const outputs = few(p.outputs, (rest) => ({ name: "", topic: `${rest.length} more outputs`, per_second: sum(rest, "per_second") }));
  const behind = p.oldest_seconds >= 30 && p.due_lag > 0;
  const boxes = { sources: [], outputs: [] };
  const arrows = [];
  const perSecond = (n, kind = "calm") => (n >= 0.005 ? kind : "idle");
  for (const s of sources) {
    boxes.sources.push({ title: s.topic, sub: many(s.partitions, "partition"), what: "Source", view: "partitions" });
    arrows.push({ from: s.topic, to: "plugin", label: rate(s.arriving_per_second), second: s.lag ? `${count(s.lag)} behind` : "", rate: s.arriving_per_second,
      kind: behind && s.lag ? "warn" : perSecond(s.arriving_per_second) });
  }
  boxes.plugin = {
    what: "Plugin", title: p.plugin.name || p.pipeline, sub: [p.plugin.version && p.plugin.version !== "unknown" && `version ${p.plugin.version}`, many(p.plugin.instances, "instance")].filter(Boolean).join(" · "),
    facts: [["median", duration(p.handling.p50_seconds)], ["p99", duration(p.handling.p99_seconds)], ["in flight", count(p.in_flight.messages)]],
    hint: p.plugin.digest ? `digest ${digest(p.plugin.digest)}` : "", view: "deployments", kind: p.stopped ? "bad" : p.ready ? "" : "warn",
  };
  for (const o of outputs) {
    boxes.outputs.push({ title: o.topic, sub: o.name ? `output ${o.name}` : "", what: "Output" });
    arrows.push({ from: "plugin", to: o.topic, label: rate(o.per_second), rate: o.per_second, kind: perSecond(o.per_second) });
  }
  const waiting = sum(p.tiers, "depth");
  boxes.retries = {
    what: "Retries", title: waiting ? `${count(waiting)} waiting` : "none waiting", view: "failures", kind: waiting ? "warn" : "",
    tiers: p.tiers.slice(0, LISTED_MAX),
  };
  const retried = p.rates.retried;
  arrows.push({ from: "plugin", to: "retries", label: rate(retried), rate: retried, kind: perSecond(retried, "warn") });
  const dead = sum(p.dead_letters, "depth");
  boxes.dead = {
    what: "Dead letters", title: dead ? many(dead, "letter") : "none", view: "letters", kind: dead ? "bad" : "",
    sub: p.dead_letters.length === 1 ? p.dead_letters[0].topic : many(p.dead_letters.length, "topic"),
  };
  arrows.push({ from: "plugin", to: "dead letters", label: rate(p.rates.dead), rate: p.rates.dead, kind: perSecond(p.rates.dead, "bad") });
  return { pipeline: p.pipeline, ...boxes, arrows };
}

const tierHeight = (plan) => 62 + plan.retries.tiers.length * 21;

function wide(plan, width) {
  const w = Math.max(170, Math.min(250, Math.round(width * 0.245)));
  const [left, middle, right] = [0, Math.round((width - w) / 2), width - w];
  const pluginHeight = 118;
  const columns = Math.max(plan.sources.length, plan.outputs.length, 1);
  const top = Math.max(columns * (BOX + GAP) - GAP, pluginHeight);
  const placed = [];
  const put = (b, x, y, height) => placed.push({ ...b, pipeline: plan.pipeline, x, y, w, height }) && placed.at(-1);
  const stack = (list, x) => {
    const all = list.length * (BOX + GAP) - GAP;
    return list.map((b, i) => put(b, x, (top - all) / 2 + i * (BOX + GAP), BOX));
  };
  const sources = stack(plan.sources, left);
  const plugin = put(plan.plugin, middle, (top - pluginHeight) / 2, pluginHeight);
  const outputs = stack(plan.outputs, right);
  const below = top + 58;
  const retries = put(plan.retries, middle, below, tierHeight(plan));
  const dead = put(plan.dead, right, below, 78);
  const arrows = [...plan.arrows];
  const across = (a, from, to, spread) => {
    const [x1, y1] = [from.x + from.w, spread ?? from.y + from.height / 2];
    const [x2, y2] = [to.x, to.y + to.height / 2];
    const mid = (x1 + x2) / 2;
    return { ...a, d: `M${x1 + 1} ${y1}C${mid} ${y1} ${mid} ${y2} ${x2 - 3} ${y2}`, lx: mid, ly: (y1 + y2) / 2 };
  };
  const entry = (i, n) => plugin.y + plugin.height / 2 - 8 + (i - (n - 1) / 2) * Math.min(18, 60 / Math.max(n, 1));
  const done = [];
  for (const [i, s] of sources.entries()) {
    const to = { ...plugin, y: entry(i, sources.length), height: 0 };
    done.push(across(arrows.shift(), s, to));
  }
  for (const [i, o] of outputs.entries()) done.push(across(arrows.shift(), plugin, o, entry(i, outputs.length)));
  const retry = arrows.shift();
  const [down, up] = [retries.x + w * 0.68, retries.x + w * 0.32];
  const [from, to] = [plugin.y + plugin.height, retries.y];
  done.push({ ...retry, d: `M${down} ${from + 1}V${to - 3}`, lx: down + 8, ly: (from + to) / 2, align: "right" });
  done.push({ label: "again", kind: retry.kind === "idle" && !(plan.retries.kind === "warn") ? "idle" : "warn", rate: retry.rate, d: `M${up} ${to - 1}V${from + 3}`, lx: up - 8, ly: (from + to) / 2, align: "left" });
  const deadArrow = arrows.shift();
  const [x1, y1] = [plugin.x + w, plugin.y + plugin.height - 16];
  const [x2, y2] = [dead.x, dead.y + dead.height / 2];
  const turn = x1 + Math.min(34, (x2 - x1) * 0.3);
  const bend = 12;
  done.push({ ...deadArrow, d: `M${x1 + 1} ${y1}H${turn - bend}Q${turn} ${y1} ${turn} ${y1 + bend}V${y2 - bend}Q${turn} ${y2} ${turn + bend} ${y2}H${x2 - 3}`, lx: turn + 10, ly: (y1 + y2) / 2 + 4, align: "right" });
  return { boxes: placed, arrows: done, height: Math.max(retries.y + retries.height, dead.y + dead.height) + 2 };
}

/** One under the other: the way in, the plugin, and what leaves it along a line at the left. */
function stacked(plan, width) {
  const placed = [];
  const arrows = [...plan.arrows];
  const done = [];
  let y = 0;
  const put = (b, x, height) => {
    placed.push({ ...b, pipeline: plan.pipeline, x, y, w: width - x, height });
    y += height;
    return placed.at(-1);
  };
  for (const s of plan.sources) {
    const from = put(s, 0, BOX);
    const middle = from.w / 2;
    const last = s === plan.sources.at(-1);
    done.push({ ...arrows.shift(), d: last ? `M${middle} ${y + 1}V${y + 37}` : `M${middle} ${y + 1}V${y + 30}`, lx: middle + 10, ly: y + 20, align: "right" });
    y += last ? 40 : 34;
  }
  const plugin = put(plan.plugin, 0, 118);
  const bottom = y;
  const branch = (a, b, height) => {
    y += 34;
    const to = put(b, 34, height);
    const at = to.y + to.height / 2;
    done.push({ ...a, d: `M14 ${bottom + 1}V${at - 10}Q14 ${at} 24 ${at}H${to.x - 3}`, lx: to.x + 2, ly: to.y - 15, align: "right" });
  };
  for (const o of plan.outputs) branch(arrows.shift(), o, BOX);
  branch(arrows.shift(), plan.retries, tierHeight(plan));
  branch(arrows.shift(), plan.dead, 78);
  // The line is drawn from the farthest, or the nearer ones would cover its colour.
  return { boxes: placed, arrows: done.reverse(), height: y + 2, plugin };
}

function arrow(a) {
  const strength = a.kind === "idle" ? 1.5 : Math.min(4, 1.6 + Math.log10(1 + a.rate) * 0.8);
  return h("g", { class: `arrow ${a.kind}` },
    h("path", { class: "way", d: a.d, "stroke-width": strength.toFixed(2), "marker-end": `url(#head-${a.kind})` }),
    a.kind === "idle" ? null : h("path", { class: "drops", d: a.d, "stroke-width": Math.max(1.4, strength * 0.7).toFixed(2) }));
}

function box(b) {
  const style = { left: `${b.x}px`, top: `${b.y}px`, width: `${b.w}px`, height: `${b.height}px` };
  const content = [
    h("span", { class: "what" }, b.what, b.kind === "bad" ? icon("critical", "bad") : b.kind === "warn" ? icon("warning", "warn") : null),
    h("span", { class: "title", title: visible(b.title) }, visible(b.title)),
    b.sub ? h("span", { class: "sub", title: b.sub }, b.sub) : null,
    b.facts ? h("span", { class: "facts", title: b.hint }, b.facts.map(([name, value]) => h("span", {}, h("i", {}, name), h("b", {}, value)))) : null,
    b.tiers?.length ? h("span", { class: "tiers" }, tiers(b.tiers)) : null,
  ];
  const props = { class: `box ${b.kind ?? ""}`, style };
  return b.view
    ? h("button", { ...props, type: "button", onclick: () => go(b.view, b.pipeline) }, content)
    : h("div", props, content);
}

function tiers(list) {
  const most = Math.max(...list.map((t) => t.depth), 1);
  return list.map((t) => h("span", { class: "tier" },
    h("i", {}, `after ${t.delay}`),
    h("span", { class: "depth" }, h("span", { style: { width: `${t.depth ? Math.max(3, (t.depth / most) * 100) : 0}%` } })),
    h("b", {}, count(t.depth))));
}
