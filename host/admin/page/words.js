// Numbers, times and bytes as people read them.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** `1,204`; from a million on `1.2 M`. */
export function count(n) {
  if (!Number.isFinite(n)) return "–";
  if (Math.abs(n) >= 1e9) return `${(n / 1e9).toFixed(1)} G`;
  if (Math.abs(n) >= 1e6) return `${(n / 1e6).toFixed(1)} M`;
  return whole.format(n);
}

/** `3 letters`, `1 letter`. */
export function many(n, one, more = `${one}s`) {
  return `${count(n)} ${Math.round(n) === 1 ? one : more}`;
}

/** `128/s`, `3.2/s`; what is less than one in a hundred seconds is none. */
export function rate(perSecond) {
  if (!(perSecond >= 0.005)) return "0/s";
  if (perSecond < 1) return `${perSecond.toFixed(2)}/s`;
  if (perSecond < 10) return `${perSecond.toFixed(1)}/s`;
  return `${count(perSecond)}/s`;
}

export function percent(share) {
  if (!(share > 0)) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return share < 0.1 ? `${(share * 100).toFixed(1)} %` : `${Math.round(share * 100)} %`;
}

/** `250 ms`, `12 s`, `4 min 10 s`, `2 h 5 min`, `3 d`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds <= 0) return "0 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const [m, s] = [Math.floor(seconds / 60), Math.floor(seconds % 60)];
  if (m < 10) return s ? `${m} min ${s} s` : `${m} min`;
  if (m < 60) return `${m} min`;
  const [hours, rest] = [Math.floor(m / 60), m % 60];
  if (hours < 24) return rest && hours < 10 ? `${hours} h ${rest} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

/** For how long by now: whole seconds, minutes after the first ones, never a flickering tenth. */
export function lasting(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return duration(seconds);
}

/** `just now`, `12 s ago`. */
export function ago(then, now) {
  return now - then < 2000 ? "just now" : `${lasting(now - then)} ago`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The time of day, with the day if it is another. */
export function time(then, now) {
  const at = new Date(then);
  if (Number.isNaN(at.getTime())) return "–";
  return Math.abs(now - then) < 20 * 3600e3 ? clock.format(at) : day.format(at);
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  if (n < 1 << 20) return `${(n / 1024).toFixed(n < 10240 ? 1 : 0)} KiB`;
  if (n < 1 << 30) return `${(n / (1 << 20)).toFixed(1)} MiB`;
  return `${(n / (1 << 30)).toFixed(1)} GiB`;
}

/** Text of strangers with its control characters made visible, so that it can pretend nothing. */
export function visible(text) {
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (c) => {
    const code = c.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return `\u27e8${code.toString(16).padStart(4, "0")}\u27e9`;
  });
}

/** `sha256:ab12cd34ef…` short enough to compare by eye. */
export function digest(text) {
  return text.replace(/^sha256:/, "").slice(0, 12);
}
