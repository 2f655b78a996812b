// The page: a bar at the top that says whether what is shown is still so, the ways to the views, and the view.

import { look } from "./api.js";
import { audit } from "./audit.js";
import { deployments } from "./deployments.js";
import { drawOver, help, unlock } from "./dialogs.js";
import { draw, h, icon } from "./dom.js";
import { failures } from "./failures.js";
import { listen, nextTheme } from "./keys.js";
import { chosenPipeline, letters } from "./letters.js";
import { overview } from "./overview.js";
import { partitions } from "./partitions.js";
import { change, drawnBy, go, mayWrite, now, state } from "./state.js";
import { count, lasting, time } from "./words.js";

const VIEWS = {
  overview: { title: "Overview", draw: () => overview(width), key: "o" },
  partitions: { title: "Partitions", draw: partitions, filter: "topic, partition, what it waits for", key: "p" },
  failures: { title: "Failures", draw: failures, filter: "kind, reason, topic", key: "f" },
  letters: { title: "Dead letters", draw: letters, filter: "kind, reason, position", key: "d" },
  deployments: { title: "Versions", draw: deployments, key: "v" },
  audit: { title: "Audit trail", draw: audit, filter: "who, what, pipeline", key: "a" },
};
const NOTICE_MS = 8000;

/** How wide a pipeline's flow may be. */
let width = 900;

function page() {
  document.documentElement.dataset.theme = state.theme;
  draw(document.getElementById("app"), bar(), connectionBanner(), state.overview ? [ways(), content()] : waiting(), notice());
  drawOver();
  const bad = (state.overview?.problems ?? []).filter((p) => p.severity !== "note").length;
  const title = VIEWS[state.view].title;
  document.title = state.connection.is === "lost" ? "No answer · Millstream" : bad ? `(${bad}) ${title} · Millstream` : `${title} · Millstream`;
}

function bar() {
  const o = state.overview;
  const { is, since } = state.connection;
  const themes = { auto: "As the system has it", light: "Light", dark: "Dark" };
  return h("header", { class: "bar" },
    h("a", { class: "mark", href: "#/overview", "aria-label": "Millstream, overview" }, icon("mark"), h("b", {}, "Millstream")),
    o ? h("span", { class: "host", title: `cluster ${o.cluster_id}` }, location.host, h("small", {}, `${o.version} · up ${lasting(now() - o.started)}`)) : null,
    h("span", { class: "space" }),
    h("span", { class: `link-state ${is}`, role: "status" }, h("i", {}),
      is === "live" ? "Live" : is === "lost" ? `No answer for ${lasting(Date.now() - since)}` : is === "locked" ? "Locked" : "Asking…"),
    h("button", { type: "button", class: `access ${mayWrite() ? "write" : ""}`, onclick: (e) => unlock(null, e.currentTarget), title: mayWrite() ? "Forget the token (u)" : "Enter the token (u)" },
      icon(mayWrite() ? "open" : "lock"), h("span", {}, mayWrite() ? "Can write" : "Read only")),
    h("button", { type: "button", class: "icon-only", "aria-label": `Theme: ${themes[state.theme]} (t)`, title: `${themes[state.theme]} (t)`, onclick: nextTheme }, icon(state.theme)),
    h("button", { type: "button", class: "icon-only", "aria-label": "Keyboard help (?)", title: "Keyboard (?)", onclick: (e) => help(e.currentTarget) }, icon("help")));
}

function connectionBanner() {
  const { is, since, why } = state.connection;
  if (is !== "lost") return null;
  const old = state.overview ? `What you see is of ${time(state.overview.now, now())}.` : "Nothing is known of it yet.";
  return h("div", { class: "banner bad", role: "alert" }, icon("critical", "bad"),
    h("p", {}, h("b", {}, `The host does not answer since ${time(since, Date.now())}.`), ` ${why ? `It says: ${why}. ` : ""}${old} This page goes on by itself when it answers again.`));
}

function ways() {
  const o = state.overview;
  const of = state.pipeline ? o.pipelines.filter((p) => p.pipeline === state.pipeline) : o.pipelines;
  const standing = of.flatMap((p) => p.partitions).filter((one) => one.held_up).length;
  const failing = of.flatMap((p) => p.failures).filter((f) => f.minutes.slice(-2).some(Boolean)).length;
  const dead = of.flatMap((p) => p.dead_letters).reduce((sum, d) => sum + d.depth, 0);
  const badges = { partitions: [standing, "warn", "stand still"], failures: [failing, "warn", "now"], letters: [dead, "bad", "letters"] };
  return h("nav", { class: "ways", "aria-label": "Views" }, Object.entries(VIEWS).map(([view, { title, key }]) => {
    const [n, kind, what] = badges[view] ?? [0];
    return h("a", { href: `#/${view}${state.pipeline ? `?pipeline=${encodeURIComponent(state.pipeline)}` : ""}`, "aria-current": view === state.view ? "page" : undefined, title: `g ${key}` },
      icon(view), h("span", {}, title), n ? h("b", { class: `badge num ${kind}`, "aria-label": `${count(n)} ${what}` }, count(n)) : null);
  }));
}

function content() {
  const view = VIEWS[state.view];
  const names = state.overview.pipelines.map((p) => p.pipeline);
  const chosen = state.view === "letters" ? chosenPipeline()?.pipeline ?? "" : state.pipeline;
  return h("main", { id: "main", tabindex: "-1", class: `view-${state.view} ${state.connection.is === "lost" ? "stale" : ""}` },
    h("div", { class: `tools ${state.view === "overview" ? "beside" : ""}` },
      state.view === "overview" ? null : h("h1", { id: "title" }, view.title),
      names.length > 1 && state.view !== "audit" ? h("label", { class: "choose" }, h("span", { class: "unseen" }, "Pipeline"),
        h("select", { value: chosen, onchange: (e) => go(state.view, e.target.value) },
          state.view === "letters" ? null : h("option", { value: "" }, "All pipelines"), names.map((name) => h("option", { value: name }, name)))) : null,
      view.filter ? h("label", { class: "filter" }, h("span", { class: "unseen" }, "Filter"),
        h("input", { id: "filter", type: "search", placeholder: `Filter: ${view.filter}`, value: state.filter, autocomplete: "off", spellcheck: "false", oninput: (e) => change({ filter: e.target.value }) }), h("kbd", { "aria-hidden": "true" }, "/")) : null),
    names.length ? view.draw() : h("div", { class: "empty" }, h("h2", {}, "This host has no pipelines")));
}

function waiting() {
  const { is, why } = state.connection;
  if (is === "locked") {
    return h("main", { id: "main", tabindex: "-1", class: "locked" }, h("div", { class: "empty" }, icon("lock"), h("h1", {}, "This host tells nothing without a token"),
      h("p", { class: "data" }, why), h("button", { type: "button", class: "primary", onclick: (e) => unlock(null, e.currentTarget) }, "Enter the token")));
  }
  return h("main", { id: "main", tabindex: "-1" }, h("div", { class: "skeleton", role: "status", "aria-label": is === "lost" ? "The host does not answer" : "Asking the host" }, h("i", {}), h("i", {}), h("i", {})));
}

function notice() {
  const { notice: told } = state;
  const shown = told && Date.now() - told.at < NOTICE_MS;
  return h("div", { class: "notices", role: "status", "aria-live": "polite" }, shown ? h("p", { class: told.kind, key: String(told.at) }, told.text) : null);
}

function route() {
  const [view, query] = location.hash.replace(/^#\/?/, "").split("?");
  const asked = new URLSearchParams(query ?? "");
  const known = view in VIEWS ? view : "overview";
  const moved = known !== state.view;
  change({ view: known, pipeline: asked.get("pipeline") ?? "", filter: moved ? "" : state.filter, over: null });
  if (moved) {
    scrollTo(0, 0);
    // The view is there with the next frame.
    setTimeout(() => {
      document.getElementById("main")?.focus({ preventScroll: true });
      document.querySelector(".ways [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    });
  }
}

new ResizeObserver(() => {
  const main = document.getElementById("main");
  const inside = main ? main.clientWidth - parseFloat(getComputedStyle(main).paddingLeft) - parseFloat(getComputedStyle(main).paddingRight) : innerWidth;
  // Within the panel's own padding.
  const padding = innerWidth < 720 ? 28 : 42;
  const next = Math.floor(inside - padding);
  if (next !== width) {
    width = next;
    change();
  }
}).observe(document.body);

drawnBy(page);
listen();
addEventListener("hashchange", route);
route();
look();
// Ages go on also while the host says nothing.
setInterval(() => change(), 1000);
