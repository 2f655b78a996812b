// One dead letter in full: why it failed, what it is, and what can be done with it.

import { ask } from "./api.js";
import { confirmChange, confirmReplay, dialog, unlock } from "./dialogs.js";
import { h, icon } from "./dom.js";
import { KINDS } from "./failures.js";
import { change, mayWrite, now, state } from "./state.js";
import { bytes, count, many, time, visible } from "./words.js";

/** What is shown of a value at first; the rest on demand. */
const SHOWN_CHARS = 20000;

/** Opens the letter `index` of `list`; focus goes back to `from`. */
export function openLetter(pipeline, list, index, from) {
  const letter = list[index];
  const over = { kind: "letter", pipeline, list, index, from, said: null, error: "", as: "pretty", all: false, draw: drawer };
  change({ over });
  const path = [letter.topic, letter.partition, letter.offset].map(encodeURIComponent).join("/");
  ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/dead-letters/${path}`)
    .then((said) => (over.said = said), (error) => (over.error = error.message))
    .finally(() => change());
}

export function step(by) {
  const { pipeline, list, index, from } = state.over;
  if (list[index + by]) openLetter(pipeline, list, index + by, from);
}

function drawer(over, close) {
  const { pipeline, list, index, said } = over;
  const letter = list[index];
  const position = `${letter.topic}[${letter.partition}]@${letter.offset}`;
  return dialog({ kind: "drawer", label: `Dead letter ${position}`, close },
    h("header", {},
      h("div", {}, h("h2", {}, "Dead letter"), h("p", { class: "name" }, position)),
      h("div", { class: "steps" },
        h("button", { type: "button", disabled: index === 0, "aria-label": "The letter before (k)", onclick: () => step(-1) }, icon("next", "turned")),
        h("span", { class: "num" }, `${index + 1} of ${list.length}`),
        h("button", { type: "button", disabled: index + 1 >= list.length, "aria-label": "The next letter (j)", onclick: () => step(1) }, icon("next")),
        h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close")))),
    h("div", { class: "body", key: position },
      h("div", { class: "cause" },
        h("p", {}, h("span", { class: `kind ${letter.kind}` }, letter.kind), h("span", { class: "of" }, `${KINDS[letter.kind] ?? ""} · ${many(letter.attempts, "attempt")}${letter.redrives ? ` · put back ${count(letter.redrives)} × before` : ""}`)),
        h("p", { class: "reason data" }, visible(letter.reason) || "(it gave no reason)")),
      over.error ? h("p", { class: "trouble" }, icon("warning", "warn"), over.error) : null,
      h("dl", { class: "facts" },
        fact("Came from", letter.origin ? `${letter.origin.topic}[${letter.origin.partition ?? "?"}]@${letter.origin.offset ?? "?"}` : "unknown"),
        fact("Written", letter.origin?.timestamp ? time(letter.origin.timestamp, now()) : "–"),
        fact("First failed", letter.first_failed ? time(letter.first_failed, now()) : "–"),
        fact("Given up", time(letter.appended, now())),
        fact("Plugin", letter.plugin ? `${letter.plugin} ${letter.plugin_version ?? ""}` : "–"),
        fact("Group", letter.origin?.group ?? "–")),
      said ? content(over, said) : over.error ? null : h("div", { class: "loading", role: "status" }, "Reading the letter…")),
    h("footer", {},
      mayWrite()
        ? [
            h("button", { type: "button", disabled: letter.kind === "foreign", onclick: () => confirmReplay(pipeline, letter, over) }, "Replay…"),
            letter.state === "open" || letter.state === "parked"
              ? h("button", { type: "button", class: "primary", disabled: letter.kind === "foreign", onclick: (e) => confirmChange("redrive", pipeline, { partition: letter.partition, offset: letter.offset, source: letter.origin?.topic, ...(letter.state === "parked" ? { state: "parked" } : {}) }, e.currentTarget, over) }, icon("back"), "Put this one back…")
              : h("span", { class: "of" }, `${letter.state === "purged" ? "given up" : "put back"} by ${visible(letter.changed?.by ?? "somebody")} ${letter.changed ? time(letter.changed.at, now()) : ""}`),
          ]
        : h("button", { type: "button", onclick: () => unlock(over) }, icon("lock"), "Enter the token to see its content and put it back")));
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", { class: "data num" }, visible(value)));
}

function content(over, said) {
  return [
    said.masked ? h("p", { class: "masked" }, icon("lock"), "Key, value and headers are not shown without the admin token.") : null,
    part("Key", said.key, over),
    part("Value", said.value, over, true),
    h("section", {}, h("h3", {}, "Headers", h("small", {}, count(said.headers.length))),
      said.headers.length ? h("table", { class: "headers" }, h("tbody", {}, said.headers.map(([name, value]) => h("tr", {},
        h("th", { scope: "row", class: "data" }, visible(name)), h("td", { class: "data" }, "content" in value ? clamp(text(value.content), 2000) : `${bytes(value.bytes)}, masked`))))) : h("p", { class: "nothing" }, "none")),
    said.backtrace ? h("section", {}, h("h3", {}, "Stack"), h("pre", { class: "data", tabindex: "0" }, clamp(visible(said.backtrace), SHOWN_CHARS))) : null,
  ];
}

function part(name, value, over, tabs) {
  const head = (more) => h("h3", {}, name, value ? h("small", {}, bytes(value.bytes)) : null, more);
  if (!value) return h("section", {}, head(), h("p", { class: "nothing" }, name === "Value" ? "none: a tombstone" : "none"));
  if (!("content" in value)) return h("section", {}, head(), h("p", { class: "nothing" }, "masked"));
  if (!tabs) return h("section", {}, head(), h("pre", { class: "data", tabindex: "0" }, clamp(text(value.content), 2000)));
  const json = pretty(value.content);
  const ways = [json === null ? null : ["pretty", "JSON"], typeof value.content === "string" ? ["text", "Text"] : null, ["hex", "Bytes"]].filter(Boolean);
  const as = ways.some(([way]) => way === over.as) ? over.as : ways[0][0];
  const shown = as === "pretty" ? json : as === "text" ? visible(value.content) : hex(value.content);
  const cut = !over.all && shown.length > SHOWN_CHARS;
  return h("section", {}, head(h("span", { class: "tabs", role: "group", "aria-label": "Show as" }, ways.map(([way, label]) =>
    h("button", { type: "button", "aria-pressed": String(way === as), onclick: () => { over.as = way; change(); } }, label)))),
    h("pre", { class: "data value", tabindex: "0" }, cut ? shown.slice(0, SHOWN_CHARS) : shown),
    cut ? h("button", { type: "button", class: "link", onclick: () => { over.all = true; change(); } }, `Show all ${bytes(value.bytes)}`) : null);
}

function clamp(shown, most) {
  return shown.length > most ? `${shown.slice(0, most)}… (${count(shown.length - most)} more characters)` : shown;
}

function text(content) {
  return typeof content === "string" ? visible(content) : hex(content);
}

/** With its indents, and every digit of its numbers as it came. */
function pretty(content) {
  if (typeof content !== "string" || content.length > 1 << 20) return null;
  try {
    const parsed = JSON.parse(content);
    if (parsed === null || typeof parsed !== "object") return null;
  } catch {
    return null;
  }
  let [out, depth] = ["", 0];
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of content.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "{" || token === "[") {
      depth += 1;
      out += token + line();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      out = /[{[]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token;
    } else if (token === ",") out += token + line();
    else out += token === ":" ? ": " : token;
  }
  return visible(out);
}

function hex(content) {
  const raw = typeof content === "string" ? new TextEncoder().encode(content) : Uint8Array.from(atob(content.base64), (c) => c.charCodeAt(0));
  const lines = [];
  for (let at = 0; at < raw.length && lines.length < 4096; at += 16) {
    const row = [...raw.subarray(at, at + 16)];
    const digits = row.map((b, i) => b.toString(16).padStart(2, "0") + (i === 7 ? " " : "")).join(" ");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(49)}  ${row.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : ".")).join("")}`);
  }
  return lines.join("\n");
}
