/**
 * A bar for each workload from what `bench/guests.ts --json` kept: `node bench/plot.ts FILE.json... OUT.svg`. To the
 * right of the line smp86 is faster than native QEMU. Several files are taken as one run's pieces.
 */
import { readFileSync, writeFileSync } from 'node:fs';

interface Kept {
  readonly about: {
    readonly cpu: string;
    readonly node: string;
    readonly qemu?: string;
    readonly jit: string;
    readonly smp: number;
    readonly runs: number;
    readonly date: string;
  };
  readonly rows: readonly { readonly name: string; readonly ratio: number | null }[];
}

const WIDTH = 720;
const LEFT = 110;
const RIGHT = 60;
const TOP = 56;
const STEP = 17;
const BAR = 12;
/** Ratios at which there is a line. */
const LINES = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const COLOURS = { faster: '#2a7f4f', slower: '#b5532a', line: '#d0d0d0', one: '#404040' } as const;

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** The picture. */
function plot(files: readonly Kept[]): string {
  const rows = files
    .flatMap((f) => f.rows)
    .flatMap(({ name, ratio }) => (ratio !== null && ratio > 0 ? [{ name, ratio }] : []))
    .sort((a, b) => b.ratio - a.ratio);
  if (rows.length === 0) throw new RangeError('no ratios in these files');
  const { about } = files[0];
  const mean = Math.exp(rows.reduce((sum, r) => sum + Math.log(r.ratio), 0) / rows.length);
  const low = Math.min(LINES[0], rows[rows.length - 1].ratio);
  const high = Math.max(LINES[LINES.length - 1], rows[0].ratio);
  const x = (ratio: number): number =>
    LEFT + ((Math.log(ratio) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (WIDTH - LEFT - RIGHT);
  const bottom = TOP + rows.length * STEP;
  const parts: string[] = [];
  const text = (at: number, y: number, content: string, more = ''): void => {
    parts.push(`<text x="${at.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escape(content)}</text>`);
  };
  text(
    8,
    16,
    `Time under native QEMU by time under smp86: geometric mean ${mean.toFixed(2)}`,
    ' font-weight="bold"',
  );
  const qemu = about.qemu?.replace(/ \(.*/, '') ?? '';
  text(
    8,
    32,
    `${qemu}; Node.js ${about.node}; jit=${about.jit}; -smp ${about.smp}; medians of ${about.runs}; ${about.cpu}; ${about.date.slice(0, 10)}`,
    ' font-size="10"',
  );
  for (const ratio of LINES) {
    const at = x(ratio).toFixed(1);
    const colour = ratio === 1 ? COLOURS.one : COLOURS.line;
    parts.push(`<line x1="${at}" x2="${at}" y1="${TOP - 4}" y2="${bottom}" stroke="${colour}"/>`);
    text(x(ratio), TOP - 8, String(ratio), ' text-anchor="middle" font-size="10"');
  }
  rows.forEach(({ name, ratio }, i) => {
    const y = TOP + i * STEP;
    const [from, to] = ratio < 1 ? [x(ratio), x(1)] : [x(1), x(ratio)];
    const colour = ratio < 1 ? COLOURS.slower : COLOURS.faster;
    parts.push(
      `<rect x="${from.toFixed(1)}" y="${y + 2}" width="${(to - from).toFixed(1)}" height="${BAR}" fill="${colour}"/>`,
    );
    text(LEFT - 6, y + 12, name, ' text-anchor="end"');
    text(WIDTH - 6, y + 12, ratio.toFixed(2), ' text-anchor="end"');
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${bottom + 10}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

const [out, ...files] = process.argv.slice(2).reverse();
if (out === undefined || files.length === 0) {
  console.error('plot: give JSON files of bench/guests.ts and a name for the picture');
  process.exit(1);
}
writeFileSync(out, plot(files.reverse().map((file) => JSON.parse(readFileSync(file, 'utf8')) as Kept)));
