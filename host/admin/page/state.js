// What the page knows, and that it is drawn again when that changes.

export const state = {
  /** The latest answer of the host. */
  overview: null,
  access: "read",
  /** `asking`, `live`, `lost`, `locked`. */
  connection: { is: "asking", since: Date.now(), why: "" },
  /** How far the host's clock is before this one's. */
  ahead: 0,
  view: "overview",
  pipeline: "",
  filter: "",
  theme: localStorage.getItem("millstream.theme") ?? "auto",
  /** What lies over the page: `null`, or what `dialogs` draws. */
  over: null,
  notice: null,
};

let redraw = () => {};
let due = false;

export function drawnBy(draw) {
  redraw = draw;
}

/** Changes what is known; the page follows with the next frame. */
export function change(what = {}) {
  Object.assign(state, what);
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    redraw();
  });
}

/** The host's time. */
export function now() {
  return Date.now() + state.ahead;
}

export function mayWrite() {
  return state.access === "write";
}

export function pipelines() {
  const all = state.overview?.pipelines ?? [];
  return state.pipeline ? all.filter((p) => p.pipeline === state.pipeline) : all;
}

/** Whether the filter's words are all in one of these texts. */
export function passes(...texts) {
  const text = texts.join(" ").toLowerCase();
  return state.filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** Something that was done or went wrong, told once at the foot of the page. */
export function notify(text, kind = "note") {
  change({ notice: { text, kind, at: Date.now() } });
}

/** A part of the page's own address: `#/failures?pipeline=orders`. */
export function go(view, pipeline = state.pipeline, more = {}) {
  const query = new URLSearchParams({ ...(pipeline ? { pipeline } : {}), ...more });
  location.hash = `#/${view}${query.size ? `?${query}` : ""}`;
}
