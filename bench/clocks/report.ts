/** Results as a page of plots: HTML with SVG in it, nothing else. */
import { type Figure, type Lateness, percentile, type Scaling } from './measure.ts';

export interface Results {
  readonly node: string;
  readonly cpu: string;
  readonly cores: number;
  readonly date: string;
  readonly figures: readonly Figure[];
  /** Absent: not measured. */
  readonly scaling?: Scaling | undefined;
  readonly lateness: readonly Lateness[];
}

const COLORS = ['#2563eb', '#9ca3af', '#dc2626', '#f59e0b'] as const;
const WIDTH = 860;
const LEFT = 320;

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
const text = (x: number, y: number, content: string, anchor = 'start', more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" ${more}>${escape(content)}</text>`;
const duration = (ns: number): string =>
  ns < 1000
    ? `${ns < 100 ? ns.toFixed(1) : ns.toFixed(0)} ns`
    : ns < 1e6
      ? `${(ns / 1e3).toFixed(1)} µs`
      : `${(ns / 1e6).toFixed(1)} ms`;

/** A logarithmic axis from `low` to `high` over the plot's width. */
function axis(low: number, high: number): { at: (value: number) => number; ticks: number[] } {
  const span = Math.log10(high / low);
  const at = (value: number): number =>
    LEFT + (Math.log10(Math.min(high, Math.max(low, value)) / low) / span) * (WIDTH - LEFT - 70);
  const ticks: number[] = [];
  for (let tick = low; tick <= high * 1.001; tick *= 10) ticks.push(tick);
  return { at, ticks };
}

function svg(height: number, parts: readonly string[]): string {
  return `<svg viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" font-family="sans-serif" font-size="12">${parts.join('')}</svg>`;
}

/** Two bars for each operation: ours, and the C program's with the ratio. */
function bars(figures: readonly Figure[]): string {
  const all = figures.flatMap((f) => [f.ns, f.native ?? f.ns]);
  const low = 10 ** Math.floor(Math.log10(Math.min(...all)));
  const { at, ticks } = axis(low, 10 ** Math.ceil(Math.log10(Math.max(...all))));
  const height = figures.length * 30 + 30;
  const parts = ticks.map(
    (tick) =>
      `<line x1="${at(tick)}" x2="${at(tick)}" y1="20" y2="${height - 10}" stroke="#e5e7eb"/>` +
      text(at(tick), 14, duration(tick), 'middle', 'fill="#6b7280"'),
  );
  figures.forEach((figure, i) => {
    const y = 24 + i * 30;
    parts.push(text(LEFT - 8, y + 15, figure.name, 'end'));
    const bar = (value: number, top: number, color: string, label: string): void => {
      parts.push(
        `<rect x="${LEFT}" y="${top}" width="${Math.max(1, at(value) - LEFT)}" height="10" fill="${color}"/>`,
      );
      parts.push(text(at(value) + 4, top + 9, label, 'start', 'font-size="10"'));
    };
    const ratio = figure.ratio === undefined ? '' : `  ${figure.ratio.toFixed(2)}×`;
    bar(figure.ns, y, COLORS[0], duration(figure.ns) + ratio);
    if (figure.native !== undefined) bar(figure.native, y + 12, COLORS[1], duration(figure.native));
  });
  return svg(height, parts);
}

/** For each measurement, how many of its expiries were no later than that. */
function distribution(lateness: readonly Lateness[]): string {
  const { at, ticks } = axis(1000, 1e8);
  const top = 20;
  const bottom = 260;
  // a share of 0.999 is as far up as 0.9 is from 0
  const y = (share: number): number =>
    bottom - (Math.min(4, -Math.log10(1 - Math.min(share, 0.9999))) / 4) * (bottom - top);
  const parts = ticks.map(
    (tick) =>
      `<line x1="${at(tick)}" x2="${at(tick)}" y1="${top}" y2="${bottom}" stroke="#e5e7eb"/>` +
      text(at(tick), bottom + 16, duration(tick), 'middle', 'fill="#6b7280"'),
  );
  for (const share of [0, 0.9, 0.99, 0.999, 0.9999]) {
    parts.push(
      text(
        LEFT - 8,
        y(share) + 4,
        `${(share * 100).toFixed(share > 0.99 ? 2 : 0)} %`,
        'end',
        'fill="#6b7280"',
      ),
    );
  }
  lateness.forEach(({ name, late }, i) => {
    const points: string[] = [];
    for (let k = 0; k <= 400; k++) {
      const share = 1 - 10 ** (-k / 100);
      points.push(`${at(percentile(late, share)).toFixed(1)},${y(share).toFixed(1)}`);
    }
    parts.push(
      `<polyline points="${points.join(' ')}" fill="none" stroke="${COLORS[i % 4]}" stroke-width="1.5"/>`,
    );
    parts.push(`<rect x="20" y="${24 + i * 40}" width="14" height="4" fill="${COLORS[i % 4]}"/>`);
    parts.push(text(40, 30 + i * 40, name));
    const [p50, p99, most] = [0.5, 0.99, 1].map((p) => duration(percentile(late, p)));
    parts.push(
      text(40, 44 + i * 40, `p50 ${p50}, p99 ${p99}, max ${most}`, 'start', 'fill="#6b7280" font-size="10"'),
    );
  });
  return svg(bottom + 30, parts);
}

export function page(results: Results): string {
  const { node, cpu, cores, date, figures, lateness, scaling } = results;
  const sections: string[] = [];
  for (const [kind, title] of [
    ['alone', 'One thread'],
    ['contended', 'Two threads at once'],
    ['round trip', 'Waking each other'],
  ] as const) {
    const some = figures.filter((figure) => figure.kind === kind);
    if (some.length > 0) sections.push(`<h2>${title}</h2>${bars(some)}`);
  }
  if (scaling !== undefined) {
    const native = scaling.native === undefined ? '' : ` (C: ${scaling.native.toFixed(2)} times)`;
    sections.push(
      `<p>With 100 000 timers armed, arming one costs ${scaling.ours.toFixed(2)} times what it costs with 1 000${native}.</p>`,
    );
  }
  if (lateness.length > 0) sections.push(`<h2>Lateness of a 1 kHz timer</h2>${distribution(lateness)}`);
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>smp86: clocks and locks</title>
<style>body{font-family:sans-serif;max-width:900px;margin:2em auto;padding:0 1em}h2{font-size:1.1em}</style>
<h1>What clocks and locks cost</h1>
<p>Time for one operation, and how many times the C program's that is: the same protocol, compiled by gcc -O2, measured in turn
in the same run. Blue: smp86. Grey: C. Medians. ${escape(date)}, Node ${escape(node)}, ${cores} × ${escape(cpu)}.</p>
${sections.join('\n')}
</html>
`;
}
