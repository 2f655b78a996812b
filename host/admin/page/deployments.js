// Versions of plugins in use.

import { h } from "./dom.js";
import { stateOf } from "./overview.js";
import { pipelines } from "./state.js";
import { bytes, count, visible } from "./words.js";

export function deployments() {
  return pipelines().map((p) => h("section", { class: "panel deployment", key: p.pipeline, "aria-label": `Plugin of ${p.pipeline}` },
    h("header", {}, h("h2", {}, p.pipeline), stateOf(p)),
    h("dl", { class: "facts" },
      fact("Plugin", p.plugin.name || "–"), fact("Version", p.plugin.version || "–"), fact("Digest", p.plugin.digest || "–", "wide"),
      fact("Instances", count(p.plugin.instances)), fact("Memory", bytes(p.plugin.memory_bytes)))));
}

function fact(name, value, kind = "") {
  return h("div", { class: kind }, h("dt", {}, name), h("dd", { class: "data num" }, visible(value)));
}
