// Draws a tree of plain objects into the page and changes only what differs, so that focus, selection and scrolling stay
// while numbers change each second. Text goes in as text: nothing here makes markup of data.

const SVG = "http://www.w3.org/2000/svg";
const drawn = new WeakMap();

/** An element. `null`, `undefined` and `false` among `kids` are left out. */
export function h(tag, props, ...kids) {
  const flat = kids.flat(Infinity).filter((kid) => kid !== null && kid !== undefined && kid !== false);
  return { tag, props: props ?? {}, kids: flat.map((kid) => (typeof kid === "object" ? kid : String(kid))) };
}

/** Makes `kids` the content of `root`. */
export function draw(root, ...kids) {
  patchKids(root, h("", {}, ...kids).kids, root.namespaceURI === SVG);
}

function create(kid, svg) {
  if (typeof kid === "string") return document.createTextNode(kid);
  const inSvg = svg || kid.tag === "svg";
  const node = inSvg ? document.createElementNS(SVG, kid.tag) : document.createElement(kid.tag);
  patch(node, kid, inSvg);
  if (kid.props.mounted) queueMicrotask(() => kid.props.mounted(node));
  return node;
}

function patch(node, kid, svg) {
  const before = drawn.get(node)?.props ?? {};
  drawn.set(node, kid);
  for (const name of Object.keys(before)) if (!(name in kid.props)) set(node, name, undefined, before[name]);
  for (const [name, value] of Object.entries(kid.props)) {
    if (value !== before[name] || name === "value" || name === "style") set(node, name, value, before[name]);
  }
  patchKids(node, kid.kids, svg && kid.tag !== "foreignObject");
  // Only now are its options there.
  if (kid.tag === "select" && node.value !== kid.props.value) node.value = kid.props.value;
}

function set(node, name, value, before) {
  if (name === "key" || name === "mounted") return;
  if (name.startsWith("on")) {
    node[name] = value ?? null;
  } else if (name === "style") {
    for (const rule of Object.keys(before ?? {})) if (!(rule in (value ?? {}))) node.style.removeProperty(rule);
    for (const [rule, to] of Object.entries(value ?? {})) {
      if (node.style.getPropertyValue(rule) !== to) node.style.setProperty(rule, to);
    }
  } else if (name === "value" && node.localName !== "option") {
    if (node.value !== value && (document.activeElement !== node || before === undefined)) node.value = value ?? "";
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

function patchKids(node, kids, svg) {
  const keyed = new Map();
  for (const child of node.childNodes) {
    const key = drawn.get(child)?.props.key;
    if (key !== undefined) keyed.set(key, child);
  }
  let at = node.firstChild;
  for (const kid of kids) {
    const key = typeof kid === "object" ? kid.props.key : undefined;
    let found = key === undefined ? at : keyed.get(key);
    if (found && !fits(found, kid)) found = undefined;
    if (found && key === undefined && drawn.get(found)?.props.key !== undefined) found = undefined;
    if (!found) {
      node.insertBefore(create(kid, svg), at);
      continue;
    }
    if (found !== at) node.insertBefore(found, at);
    else at = at.nextSibling;
    if (typeof kid === "string") {
      if (found.data !== kid) found.data = kid;
    } else {
      patch(found, kid, svg || kid.tag === "svg");
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function fits(node, kid) {
  if (typeof kid === "string") return node.nodeType === Node.TEXT_NODE;
  return drawn.get(node)?.tag === kid.tag;
}

const ICONS = {
  critical: "M8.200 2h7.600L22 8.200v7.600L15.800 22H8.200L2 15.800V8.200zM8.500 8.500l7 7m0-7l-7 7",
  warning: "M12 3.500L22 20.500H2zM12 10v5m0 2.500v.01",
  note: "M12 2.500a9.500 9.500 0 1 0 0 19 9.500 9.500 0 0 0 0-19zM12 11v5.500m0-9v.01",
  ok: "M12 2.500a9.500 9.500 0 1 0 0 19 9.500 9.500 0 0 0 0-19zM7.500 12.300l3 3 6-6.300",
  overview: "M3 12h4l3-8 4 16 3-8h4",
  partitions: "M4 20V10m5 10V4m6 16v-7m5 7V8",
  failures: "M12 3.500L22 20.500H2zM12 10v5m0 2.500v.01",
  letters: "M3 6h18v13H3zM3 7l9 7 9-7",
  deployments: "M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9",
  audit: "M6 3h9l4 4v14H6zM9 11h7M9 15h7",
  lock: "M6 11h12v10H6zM8.500 11V7.500a3.500 3.500 0 0 1 7 0V11",
  open: "M6 11h12v10H6zM8.500 11V7.500a3.500 3.500 0 0 1 6.800-1.200",
  light: "M12 7.500a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9zM12 2v2m0 16v2M2 12h2m16 0h2M5 5l1.400 1.400m11.200 11.200L19 19M5 19l1.400-1.400M17.600 6.400L19 5",
  dark: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500z",
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  help: "M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400m0 3.500v.01",
  close: "M6 6l12 12M18 6L6 18",
  next: "M9 5l7 7-7 7",
  back: "M4 9h11a5 5 0 0 1 0 10H9M4 9l4.500-4.500M4 9l4.500 4.500",
  mark: "M12 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM12 4v14M5 11h14M7.100 6.100l9.800 9.800M16.900 6.100l-9.800 9.800M2 21.500c2.500-1.600 4.500-1.600 6.700 0s4.300 1.600 6.600 0 4.400-1.600 6.700 0",
};

/** A small drawing beside a word that says the same. */
export function icon(name, kind = "") {
  return h("svg", { class: `icon ${kind}`, viewBox: "0 0 24 24", "aria-hidden": "true" }, h("path", { d: ICONS[name] }));
}
