// Numbers as people read them.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });

export const count = (n) => plain.format(n);

// rate has a decimal where that says something.
export const rate = (n) => (n > 0 && n < 100 ? short.format(n) : plain.format(n));

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024) return unit === "B" ? `${plain.format(n)} B` : `${short.format(n)} ${unit}`;
    n /= 1024;
  }
  return `${short.format(n)} TiB`;
}

// ms formats milliseconds, with about two digits.
export function ms(n) {
  if (n === 0) return "0 ms";
  if (n < 1) return `${Math.max(1, Math.round(n * 1000))} µs`;
  return n < 10 ? `${short.format(n)} ms` : n < 10_000 ? `${plain.format(n)} ms` : `${short.format(n / 1000)} s`;
}

// span formats seconds: 42 s, 12 min, 5 h 3 min, 12 d 4 h.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 120) return `${m} min`;
  const h = Math.floor(m / 60);
  return h < 48 ? `${h} h ${m % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

export const percent = (part) => `${Math.round(100 * part)} %`;

// words makes a reason's word readable: address_full.
export const words = (reason) => reason.replaceAll("_", " ");
