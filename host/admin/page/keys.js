// The keyboard: `g` and a letter goes to a view, `/` filters, `?` helps. Never while something is typed.

import { help, unlock } from "./dialogs.js";
import { step } from "./letter.js";
import { change, go, state } from "./state.js";

const VIEWS = { o: "overview", p: "partitions", f: "failures", d: "letters", v: "deployments", a: "audit" };
/** How long after `g` the letter may come. */
const SECOND_WITHIN_MS = 1500;
let begun = 0;

const ACTS = { "?": () => help(), t: () => nextTheme(), u: () => unlock() };

export const THEMES = ["auto", "light", "dark"];

export function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length];
  localStorage.setItem("millstream.theme", theme);
  change({ theme });
}

export function listen() {
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const typing = e.target.closest?.("input, textarea, select");
    if (e.key === "Escape") {
      if (state.over) return;
      if (typing || state.filter) {
        change({ filter: "" });
        typing?.blur();
        document.getElementById("main")?.focus({ preventScroll: true });
      }
      return;
    }
    if (typing) return;
    if (state.over) {
      if (state.over.kind === "letter" && (e.key === "j" || e.key === "k")) step(e.key === "j" ? 1 : -1);
      return;
    }
    const second = Date.now() - begun < SECOND_WITHIN_MS;
    begun = e.key === "g" ? Date.now() : 0;
    if (second && VIEWS[e.key]) {
      e.preventDefault();
      go(VIEWS[e.key]);
    } else if (e.key === "/") {
      const filter = document.getElementById("filter");
      if (filter) {
        e.preventDefault();
        filter.focus();
        filter.select();
      }
    } else if (ACTS[e.key]) {
      // Or the letter would be typed into the field that gets the focus.
      e.preventDefault();
      ACTS[e.key]();
    }
  });
}

