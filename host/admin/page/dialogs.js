// What lies over the page: the token, a confirmation, help. The browser's own dialogs: they keep the focus, and Esc closes.

import { ask, look, Refused, token } from "./api.js";
import { draw, h, icon } from "./dom.js";
import { change, mayWrite, notify, state } from "./state.js";
import { count, many } from "./words.js";

const SHORTCUTS = [
  ["g o", "Overview"], ["g p", "Partitions"], ["g f", "Failures"], ["g d", "Dead letters"], ["g v", "Versions of plugins"], ["g a", "Audit trail"],
  ["/", "Filter"], ["Esc", "Close, or clear the filter"], ["j  k", "The next letter, the one before"], ["t", "Light, dark, or as the system has it"], ["u", "Enter or forget the token"], ["?", "This help"],
];

/** Draws what lies over the page. */
export function drawOver() {
  const over = state.over;
  draw(document.getElementById("over"), over ? over.draw(over, close) : null);
}

export function close() {
  const over = state.over;
  if (!over) return;
  change({ over: over.back ?? null });
  // The dialog must be gone before what was behind it can have the focus.
  if (!over.back) queueMicrotask(() => queueMicrotask(() => (over.from?.isConnected ? over.from : document.getElementById("main"))?.focus()));
}

export function dialog({ kind = "", label, close }, ...content) {
  return h("dialog", {
    key: `${kind} ${label}`, class: `over ${kind}`, "aria-label": label,
    mounted: (node) => node.showModal(),
    oncancel: (e) => { e.preventDefault(); close(); },
    onclick: (e) => { if (e.target === e.currentTarget) close(); },
  }, h("div", { class: "sheet" }, content));
}

/** Asks for the token; `back` is what is shown again then. */
export function unlock(back = null, from = document.activeElement) {
  if (mayWrite() && token.get()) {
    token.drop();
    notify("The token is forgotten: this page only reads now.");
    look();
    return;
  }
  change({ over: { draw: tokenDialog, back, from, error: "", asking: false } });
}

function tokenDialog(over, close) {
  const enter = async (e) => {
    e.preventDefault();
    const [value, by] = ["token", "by"].map((name) => e.target.elements[name].value.trim());
    change(Object.assign(over, { asking: true, error: "" }) && {});
    try {
      const said = await ask("overview", { shown: value });
      token.set(value, by);
      change({ access: said.access, overview: said.overview, connection: { is: "live", since: Date.now(), why: "" } });
      notify(said.access === "write" ? "You can write now. Everything you change is in the audit trail." : "This token only reads.");
      close();
      look();
    } catch (error) {
      over.error = error instanceof Refused && error.status === 401 ? "This is not the host's token." : error.message;
      over.asking = false;
      change();
    }
  };
  return dialog({ label: "Enter the token", close },
    h("form", { onsubmit: enter },
      h("header", {}, h("h2", {}, "Enter the token"), h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close"))),
      h("div", { class: "body" },
        h("p", {}, "It is ", h("code", {}, "host.admin_token"), " of the configuration, or stands in ", h("code", {}, "admin.token"), " in the host's data folder. It stays in this tab until you close it."),
        h("label", {}, "Token", h("input", { name: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false", "aria-describedby": "token-error", mounted: (node) => node.focus() })),
        h("label", {}, "Your name, for the audit trail", h("input", { name: "by", autocomplete: "off", maxlength: "64", value: token.by(), spellcheck: "false" })),
        h("p", { id: "token-error", class: "error", role: "alert" }, over.error)),
      h("footer", {}, h("button", { type: "button", onclick: close }, "Cancel"), h("button", { type: "submit", class: "primary", disabled: over.asking }, over.asking ? "Asking…" : "Enter"))));
}

/** Puts letters back, after it was said exactly which and that was confirmed. */
export function confirmRedrive(pipeline, letters, from, back = null) {
  if (!mayWrite()) {
    unlock(null, from);
    return;
  }
  const over = { draw: redriveDialog, pipeline, letters, from, back, report: null, error: "", typed: "", sending: false };
  change({ over });
  ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/redrive`, { method: "POST", body: { letters, dry_run: true }, within: 30000 })
    .then((report) => (over.report = report), (error) => (over.error = error.message))
    .finally(() => change());
}

function redriveDialog(over, close) {
  const { pipeline, letters, report } = over;
  const n = report?.redriven ?? 0;
  const typing = n > 1;
  const may = report && n > 0 && !over.sending && (!typing || over.typed.trim() === String(n));
  const send = async (e) => {
    e.preventDefault();
    if (!may) return;
    change(Object.assign(over, { sending: true, error: "" }) && {});
    try {
      await ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/redrive`, { method: "POST", body: { letters } });
      over.back = null;
      close();
      notify(`Putting ${many(n, "dead letter")} back. This page shows how far it is.`);
      look();
    } catch (error) {
      change(Object.assign(over, { sending: false, error: error.message }) && {});
    }
  };
  const which = letters.offset !== undefined ? "this dead letter" : letters.kind ? `all dead letters of kind ${letters.kind}` : "all dead letters";
  return dialog({ label: "Put dead letters back", close },
    h("form", { onsubmit: send },
      h("header", {}, h("h2", {}, `Put ${which} of ${pipeline.pipeline} back?`), h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close"))),
      h("div", { class: "body" },
        report
          ? n ? [
              h("p", { class: "count" }, h("b", { class: "num" }, many(n, "dead letter")), n === 1 ? " goes back to be handled:" : " go back to be handled:"),
              h("ul", { class: "plan num" },
                Object.entries(report.tiers).map(([tier, k]) => h("li", {}, `${count(k)} to `, h("code", {}, tier))),
                report.left ? h("li", {}, `${count(report.left)} stay where they are`) : null,
                report.foreign ? h("li", {}, `${count(report.foreign)} are not this pipeline's and stay`) : null),
              h("p", {}, "Each is handled again by ", h("b", {}, [pipeline.plugin.name, pipeline.plugin.version].filter(Boolean).join(" ") || "the plugin in use"), " as if for the first time, with all its attempts, and leaves the dead letters. What fails again comes back here. Outputs that earlier attempts sent are not taken back."),
              typing ? h("label", {}, ["Type ", h("b", { class: "num" }, String(n)), " to confirm"], h("input", { name: "typed", inputmode: "numeric", autocomplete: "off", value: over.typed, "aria-describedby": "redrive-error", oninput: (e) => { over.typed = e.target.value; change(); }, mounted: (node) => node.focus() })) : null,
            ]
            : h("p", {}, "There is nothing to put back: they were put back already, removed, or are not this pipeline's.")
          : over.error ? null : h("div", { class: "loading", role: "status" }, "Counting…"),
        h("p", { id: "redrive-error", class: "error data", role: "alert" }, over.error)),
      h("footer", {}, h("button", { type: "button", onclick: close }, "Cancel"),
        h("button", { type: "submit", class: "danger", disabled: !may }, over.sending ? "Beginning…" : n > 1 ? `Put ${count(n)} back` : "Put it back"))));
}

export function help(from = document.activeElement) {
  change({ over: { draw: helpDialog, from } });
}

function helpDialog(over, close) {
  return dialog({ label: "Keyboard", close },
    h("header", {}, h("h2", {}, "Keyboard"), h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close"))),
    h("div", { class: "body" }, h("dl", { class: "shortcuts" }, SHORTCUTS.map(([keys, what]) => h("div", {}, h("dt", {}, keys.split(/\s+/).map((key) => h("kbd", {}, key))), h("dd", {}, what)))),
      h("p", { class: "sub" }, "Everything can be reached with Tab. The host's API is described at ", h("a", { href: "/api/v1/openapi.json" }, "/api/v1/openapi.json"), ".")));
}
