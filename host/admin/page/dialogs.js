// What lies over the page: the token, a confirmation, help. The browser's own dialogs: they keep the focus, and Esc closes.

import { ask, look, Refused, token } from "./api.js";
import { draw, h, icon } from "./dom.js";
import { change, mayWrite, notify, state } from "./state.js";
import { count, many, visible } from "./words.js";

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
    mounted: (node) => {
      node.showModal();
      // What is to be typed first, or else the sheet: no button should look chosen.
      (node.querySelector("input") ?? node.firstElementChild).focus();
    },
    oncancel: (e) => { e.preventDefault(); close(); },
    onclick: (e) => { if (e.target === e.currentTarget) close(); },
  }, h("div", { class: "sheet", tabindex: "-1" }, content));
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

const CHANGES = {
  redrive: { verb: "Put", back: " back", goes: ["goes back to be handled:", "go back to be handled:"], doing: "Putting", button: (n) => (n > 1 ? `Put ${count(n)} back` : "Put it back"), none: "There is nothing to put back: they were put back already, removed, or are not this pipeline's." },
  purge: { verb: "Give", back: " up", goes: ["is given up:", "are given up:"], doing: "Giving up", button: (n) => (n > 1 ? `Give ${count(n)} up` : "Give it up"), none: "There is nothing to give up." },
};

/** Puts letters back, or gives them up, after it was said exactly which and that was confirmed. */
export function confirmChange(action, pipeline, letters, from, back = null) {
  if (!mayWrite()) {
    unlock(null, from);
    return;
  }
  const over = { draw: changeDialog, action, pipeline, letters, from, back, report: null, error: "", typed: "", sending: false };
  change({ over });
  ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/${action}`, { method: "POST", body: { letters, dry_run: true }, within: 30000 })
    .then((report) => (over.report = report), (error) => (over.error = error.message))
    .finally(() => change());
}

function changeDialog(over, close) {
  const { action, pipeline, letters, report } = over;
  const words = CHANGES[action];
  const n = report?.redriven ?? report?.purged ?? 0;
  // Giving up cannot be taken back: also one is typed.
  const typing = n > 1 || (n === 1 && action === "purge");
  const may = report && n > 0 && !over.sending && (!typing || over.typed.trim() === String(n));
  const send = async (e) => {
    e.preventDefault();
    if (!may) return;
    change(Object.assign(over, { sending: true, error: "" }) && {});
    try {
      await ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/${action}`, { method: "POST", body: { letters } });
      over.back = null;
      close();
      notify(`${words.doing} ${many(n, "dead letter")}${action === "redrive" ? " back" : ""}. This page shows how far it is.`);
      look();
    } catch (error) {
      change(Object.assign(over, { sending: false, error: error.message }) && {});
    }
  };
  const state = letters.state ? `${letters.state} ` : "";
  const which = letters.offset !== undefined ? "this dead letter" : letters.kind ? `all ${state}dead letters of kind ${letters.kind}` : `all ${state}dead letters`;
  return dialog({ label: `${words.verb} dead letters${words.back}`, close },
    h("form", { onsubmit: send },
      h("header", {}, h("h2", {}, `${words.verb} ${which} of ${pipeline.pipeline}${words.back}?`), h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close"))),
      h("div", { class: "body" },
        report
          ? n ? [
              h("p", { class: "count" }, h("b", { class: "num" }, many(n, "dead letter")), ` ${words.goes[n === 1 ? 0 : 1]}`),
              h("ul", { class: "plan num" },
                Object.entries(report.targets ?? {}).map(([tier, k]) => h("li", {}, `${count(k)} to `, h("code", {}, tier))),
                action === "purge" ? h("li", {}, `${count(n)} marked as given up, and removed as far as nothing before them stays`) : null,
                report.parked ? h("li", {}, `${count(report.parked)} were put back too often and are parked instead`) : null,
                report.left ? h("li", {}, `${count(report.left)} stay where they are`) : null,
                report.foreign ? h("li", {}, `${count(report.foreign)} are not this pipeline's and stay`) : null),
              action === "redrive"
                ? h("p", {}, "Each is handled again by ", h("b", {}, [pipeline.plugin.name, pipeline.plugin.version].filter(Boolean).join(" ") || "the plugin in use"), " as if for the first time, with all its attempts. What fails again comes back here. Outputs that earlier attempts sent are not taken back.")
                : h("p", {}, "They are never handled any more, and their content is removed. ", h("b", {}, "This cannot be taken back."), " ", h("code", {}, "millstream dlq export"), " keeps a copy first."),
              typing ? h("label", {}, h("span", {}, "Type ", h("b", { class: "num" }, String(n)), " to confirm"), h("input", { name: "typed", inputmode: "numeric", autocomplete: "off", value: over.typed, "aria-describedby": "change-error", oninput: (e) => { over.typed = e.target.value; change(); }, mounted: (node) => node.focus() })) : null,
            ]
            : h("p", {}, words.none)
          : over.error ? null : h("div", { class: "loading", role: "status" }, "Counting…"),
        h("p", { id: "change-error", class: "error data", role: "alert" }, over.error)),
      h("footer", {}, h("button", { type: "button", onclick: close }, "Cancel"),
        h("button", { type: "submit", class: "danger", disabled: !may }, over.sending ? "Beginning…" : words.button(n)))));
}

/** Makes a letter's last attempt again, after it was said what that does. */
export function confirmReplay(pipeline, letter, back) {
  change({ over: { draw: replayDialog, pipeline, letter, back, from: null, said: null, error: "", running: false } });
}

function replayDialog(over, close) {
  const { pipeline, letter, said } = over;
  const run = async () => {
    change(Object.assign(over, { running: true, error: "", said: null }) && {});
    const path = [letter.topic, letter.partition, letter.offset].map(encodeURIComponent).join("/");
    try {
      over.said = await ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/dead-letters/${path}/replay`, { method: "POST", within: 30000 });
    } catch (error) {
      over.error = error.message;
    }
    change(Object.assign(over, { running: false }) && {});
  };
  const plugin = [pipeline.plugin.name, pipeline.plugin.version].filter(Boolean).join(" ") || "the plugin in use";
  const same = said && said.kind === said.then_kind && said.reason === said.then_reason;
  return dialog({ label: "Replay the letter", close },
    h("header", {}, h("h2", {}, "Replay this dead letter?"), h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close"))),
    h("div", { class: "body" },
      said ? null : h("p", {}, "Its last attempt is made once more by ", h("b", {}, plugin), ", in an instance of its own, with the same clock and random. Its outputs are shown here and go nowhere; the letter stays as it is."),
      said ? [
        h("p", { class: "count" }, said.kind === "done" ? [icon("ok", "ok"), " It is handled well now"] : [icon(same ? "critical" : "warning", same ? "bad" : "warn"), same ? " It fails as it did then" : " It fails in another way"],
          h("small", {}, ` in ${said.milliseconds} ms, ${said.plugin} ${said.plugin_version}${said.same_plugin ? ", the same it failed in" : ", another than it failed in"}`)),
        said.kind === "done"
          ? said.outputs.length ? h("ul", { class: "plan" }, said.outputs.slice(0, 20).map((o) => h("li", {}, h("b", {}, `to ${visible(o.to)}: `), h("span", { class: "data" }, shown(o.value))))) : h("p", { class: "nothing" }, "It sends no outputs.")
          : h("div", { class: "cause" }, h("p", {}, h("span", { class: `kind ${said.kind}` }, said.kind)), h("p", { class: "reason data" }, visible(said.reason))),
        said.backtrace ? h("pre", { class: "data", tabindex: "0" }, visible(said.backtrace)) : null,
      ] : null,
      over.running ? h("div", { class: "loading", role: "status" }, "Running…") : null,
      h("p", { class: "error data", role: "alert" }, over.error)),
    h("footer", {}, h("button", { type: "button", onclick: close }, said ? "Close" : "Cancel"),
      h("button", { type: "button", class: "primary", disabled: over.running, onclick: run }, said ? "Once more" : "Replay")));
}

function shown(payload) {
  if (payload === null) return "a tombstone";
  const text = typeof payload === "string" ? visible(payload) : "bytes";
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}

/** Goes back to a version, after it was said which and that was confirmed. */
export function confirmRollback(pipeline, to, name, from) {
  if (!mayWrite()) {
    unlock(null, from);
    return;
  }
  change({ over: { draw: rollbackDialog, pipeline, to, name, from, error: "", typed: "", sending: false } });
}

function rollbackDialog(over, close) {
  const { pipeline, to, name } = over;
  const may = !over.sending && over.typed.trim() === pipeline.pipeline;
  const send = async (e) => {
    e.preventDefault();
    if (!may) return;
    change(Object.assign(over, { sending: true, error: "" }) && {});
    try {
      await ask(`pipelines/${encodeURIComponent(pipeline.pipeline)}/rollback`, { method: "POST", body: to === null ? {} : { to } });
      close();
      notify(`Rolling ${pipeline.pipeline} back to ${name}.`);
      look();
    } catch (error) {
      change(Object.assign(over, { sending: false, error: error.message }) && {});
    }
  };
  return dialog({ label: "Roll back", close },
    h("form", { onsubmit: send },
      h("header", {}, h("h2", {}, `Roll ${pipeline.pipeline} back?`), h("button", { type: "button", "aria-label": "Close (Esc)", onclick: close }, icon("close"))),
      h("div", { class: "body" },
        h("ul", { class: "plan" }, h("li", {}, "From ", h("b", {}, `${pipeline.plugin.name} ${pipeline.plugin.version}`)), h("li", {}, "to ", h("b", {}, name))),
        h("p", {}, "All hosts of the pipeline change from one message to the next; nothing is handled by both. What was handled stays as it is, and retries that wait are made by the version that is rolled back to."),
        h("label", {}, h("span", {}, "Type ", h("b", {}, pipeline.pipeline), " to confirm"), h("input", { name: "typed", autocomplete: "off", spellcheck: "false", value: over.typed, "aria-describedby": "rollback-error", oninput: (e) => { over.typed = e.target.value; change(); }, mounted: (node) => node.focus() })),
        h("p", { id: "rollback-error", class: "error data", role: "alert" }, over.error)),
      h("footer", {}, h("button", { type: "button", onclick: close }, "Cancel"), h("button", { type: "submit", class: "danger", disabled: !may }, over.sending ? "Beginning…" : "Roll back"))));
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
