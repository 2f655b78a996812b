// Small drawings of how a number was: a line for what goes on, bars for what is counted.

import { h } from "./dom.js";

const [W, H] = [132, 32];

/** The last half hour as a line. `label` says in words what it shows. */
export function sparkline(points, label, kind = "") {
  // Two points are no course yet: a line of nothing until there are more.
  const known = points.length > 2 ? points : [0, 0];
  const most = Math.max(...known, 0);
  const step = points.length > 2 ? W / 179 : W;
  const x = (i) => (W - (known.length - 1 - i) * step).toFixed(1);
  const y = (n) => (most > 0 ? H - 2 - (n / most) * (H - 5) : H - 2).toFixed(1);
  const line = known.map((n, i) => `${i ? "L" : "M"}${x(i)} ${y(n)}`).join("");
  return h("svg", { class: `spark ${kind}`, viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    h("path", { class: "area", d: `${line}L${W} ${H}L${x(0)} ${H}Z` }),
    h("path", { class: "line", d: line, "vector-effect": "non-scaling-stroke" }),
  );
}

/** How many in each minute, the last one at the right. */
export function bars(minutes, label) {
  const most = Math.max(...minutes, 1);
  const width = W / minutes.length;
  return h("svg", { class: "bars", viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    h("path", { class: "base", d: `M0 ${H - 0.5}H${W}` }),
    minutes.map((n, i) => {
      const height = n ? Math.max(2, (n / most) * (H - 2)) : 0;
      return n ? h("rect", { x: (i * width + 0.4).toFixed(1), width: (width - 0.8).toFixed(1), y: (H - height).toFixed(1), height: height.toFixed(1) }) : null;
    }),
  );
}
