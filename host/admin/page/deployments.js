// Versions of plugins: what runs, what was deployed, by whom, and the way back.

import { ask } from "./api.js";
import { confirmRollback } from "./dialogs.js";
import { h, icon } from "./dom.js";
import { stateOf } from "./overview.js";
import { change, now, pipelines, state } from "./state.js";
import { ago, bytes, count, digest, time, visible } from "./words.js";

const LOOK_AGAIN_MS = 4000;
const known = new Map();

function versions(p) {
  const it = known.get(p.pipeline) ?? { asked: 0, asking: false, said: null, error: "" };
  known.set(p.pipeline, it);
  if (!it.asking && Date.now() - it.asked >= LOOK_AGAIN_MS) {
    it.asking = true;
    ask(`pipelines/${encodeURIComponent(p.pipeline)}/versions`)
      .then((said) => Object.assign(it, { said, error: "" }), (error) => (it.error = error.message))
      .finally(() => {
        Object.assign(it, { asking: false, asked: Date.now() });
        change();
      });
  }
  return it;
}

export function deployments() {
  return pipelines().map((p) => {
    const { said, error } = versions(p);
    const job = state.overview.jobs.find((one) => one.pipeline === p.pipeline && one.action === "rollback");
    return h("section", { class: "panel deployment", key: p.pipeline, "aria-label": `Versions of ${p.pipeline}` },
      h("header", {}, h("h2", {}, p.pipeline), stateOf(p), said?.can_roll_back ? rollback(p, said) : null),
      job ? progress(job) : null,
      error ? h("p", { class: "trouble" }, icon("warning", "warn"), h("span", { class: "data" }, visible(error))) : null,
      h("dl", { class: "facts" },
        fact("In use", p.plugin.name ? `${p.plugin.name} ${p.plugin.version}` : "nothing"), fact("Digest", p.plugin.digest || "–", "wide"),
        fact("Instances", count(p.plugin.instances)), fact("Memory", bytes(p.plugin.memory_bytes))),
      said ? history(p, said) : error ? null : h("div", { class: "loading", role: "status" }, "Reading the versions…"));
  });
}

const nameOf = (said, d) => (d === null ? "the file of the configuration" : `version ${said.versions.find((v) => v.digest === d)?.version ?? digest(d)}`);

function rollback(p, said) {
  const running = state.overview.jobs.some((job) => job.pipeline === p.pipeline && job.state === "running");
  const name = nameOf(said, said.before);
  return h("button", { type: "button", class: "primary", disabled: running, onclick: (e) => confirmRollback(p, null, name, e.currentTarget) }, icon("back"), `Roll back to ${name}…`);
}

function progress(job) {
  if (job.state === "running") return h("div", { class: "job running", role: "status" }, h("p", {}, h("b", {}, "Rolling back"), h("small", {}, `begun by ${visible(job.by)} ${ago(job.begun, now())}`)));
  if (now() - job.ended > 10 * 60e3) return null;
  const failed = job.state === "failed";
  return h("div", { class: `job ${failed ? "bad" : "ok"}`, role: "status" }, icon(failed ? "critical" : "ok", failed ? "bad" : "ok"),
    h("p", {}, failed ? [h("b", {}, "Not rolled back: "), h("span", { class: "data" }, visible(job.error ?? ""))] : h("b", {}, `Rolled back: ${visible(job.report?.now ?? "")} is in use`),
      h("small", {}, `by ${visible(job.by)} ${ago(job.ended, now())}`)));
}

function history(p, said) {
  if (!said.changes.length) return h("p", { class: "nothing deployed" }, "Nothing was deployed: it runs the file of its configuration. ", h("code", {}, `millstream deploy ${p.pipeline} FILE`), " deploys a version while messages flow.");
  const hosts = Object.entries(said.hosts);
  return [
    hosts.length ? h("ul", { class: "hosts", "aria-label": "Hosts" }, hosts.map(([host, row]) => h("li", { key: host }, row.trouble ? icon("critical", "bad") : icon("ok", "ok"), h("span", { class: "name" }, visible(host)),
      h("span", { class: "of" }, row.trouble ? visible(row.trouble) : row.version ? `version ${visible(row.version)}` : "the file")))) : null,
    h("div", { class: "table" }, h("table", { class: "rows" },
      h("caption", { class: "unseen" }, "Changes, newest first"),
      h("thead", {}, h("tr", {}, ["When", "Change", "To", "Who", ""].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, said.changes.slice(0, 12).map((c, i) => h("tr", { key: String(c.number) },
        h("td", { class: "num", "data-name": "When" }, time(c.at, now())),
        h("td", { "data-name": "Change" }, c.rollback ? "rollback" : "deploy"),
        h("td", { "data-name": "To" }, h("b", {}, nameOf(said, c.digest)), c.digest ? h("span", { class: "of name" }, ` ${digest(c.digest)}`) : null, i === 0 ? h("span", { class: "pill ok" }, "in use") : null),
        h("td", { class: "data", "data-name": "Who" }, visible(c.by)),
        h("td", {}, i > 0 && c.digest !== said.in_use && c.digest !== said.before && said.versions.some((v) => v.digest === c.digest)
          ? h("button", { type: "button", class: "see", onclick: (e) => confirmRollback(p, c.digest, nameOf(said, c.digest), e.currentTarget) }, "Back to this…") : null)))))),
  ];
}

function fact(name, value, kind = "") {
  return h("div", { class: kind }, h("dt", {}, name), h("dd", { class: "data num" }, visible(value)));
}
