/**
 * Interrupt latency and pauses of a vCPU, measured by a bare-metal guest: from the moment the local APIC's timer is
 * due to the first instruction of the handler (the vCPU halted, and busy), and the longest distance of two RDTSC in
 * a loop. smp86 with the interpreter alone, with tier 1, and native QEMU's TCG, in turn in one run. `node bench/latency.ts [--runs N] [--json FILE]`
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Machine } from '../src/machine/machine.ts';
import { median, qemuVersion, runQemu } from './qemu.ts';

const KERNEL = fileURLToPath(new URL('guest/latency.bin', import.meta.url));
const DEVICE = 'isa-debug-exit,iobase=0x501,iosize=2';
/** The local APIC's timer counts ns. */
const TIMER_HZ = 1e9;
const PAUSE_US = 1000;

/** µs. */
interface Latencies {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}
interface Result {
  readonly halted: Latencies;
  readonly busy: Latencies;
  /** µs. */
  readonly longestPause: number;
  /** Pauses of at least about PAUSE_US. */
  readonly pauses: number;
}

function parse(output: string): Result {
  const words = output
    .split('\n')
    .map((line) => line.trim().split(' '))
    .map(([name, ...rest]) => ({ name, values: rest.map((word) => parseInt(word, 16)) }));
  const of = (name: string): number[][] => words.filter((w) => w.name === name).map((w) => w.values);
  const [[timer, tsc]] = of('scale');
  const microseconds = (ticks: number): number => ((ticks * timer) / tsc / TIMER_HZ) * 1e6;
  const latencies = (name: string): Latencies => {
    const sorted = of(name)
      .map(([due, ticks]) => microseconds(ticks) - (due / TIMER_HZ) * 1e6)
      .sort((a, b) => a - b);
    const at = (part: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
    return { p50: at(0.5), p99: at(0.99), max: at(1) };
  };
  const long = of('more').filter(([power]) => microseconds(2 ** power) >= PAUSE_US);
  return {
    halted: latencies('h'),
    busy: latencies('b'),
    longestPause: microseconds(of('gap')[0][0]),
    pauses: long.reduce((sum, [, count]) => sum + count, 0),
  };
}

async function smp86(jit: boolean): Promise<Result> {
  await using machine = await Machine.create({
    kernel: KERNEL,
    memory: '64M',
    accel: { thread: 'multi', jit },
    devices: [DEVICE],
  });
  let output = '';
  machine.serial[0]?.on('data', (bytes: Uint8Array) => {
    output += Buffer.from(bytes).toString('latin1');
  });
  await machine.exit;
  return parse(output);
}
async function qemu(): Promise<Result> {
  const { output } = await runQemu(['-m', '64M', '-kernel', KERNEL, '-device', DEVICE]);
  return parse(output.replace(/^.*ROM\.\./m, ''));
}

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '3' }, json: { type: 'string' } },
});
const version = qemuVersion();
const columns: [string, () => Promise<Result>][] = [
  ['tier 0', () => smp86(false)],
  ['tier 0+1', () => smp86(true)],
];
if (version === undefined) console.log('qemu-system-x86_64 is missing: no comparison');
else columns.push(['qemu tcg', qemu]);
const results = new Map<string, Result[]>(columns.map(([name]) => [name, []]));
for (let run = 0; run < Number(values.runs); run++) {
  for (const [name, measure] of columns) results.get(name)?.push(await measure());
}

const ROWS: [string, (r: Result) => number][] = [
  ['halted, p50', (r) => r.halted.p50],
  ['halted, p99', (r) => r.halted.p99],
  ['busy, p50', (r) => r.busy.p50],
  ['busy, p99', (r) => r.busy.p99],
  ['longest pause', (r) => r.longestPause],
  ['pauses of 1 ms', (r) => r.pauses],
];
console.log(`µs from timer due to the handler; longest pause of a vCPU in 3 s; medians of ${values.runs}`);
if (version !== undefined) console.log(version);
console.log([''.padEnd(16), ...columns.map(([name]) => name.padStart(10))].join(''));
for (const [title, value] of ROWS) {
  const cells = columns.map(([name]) => median((results.get(name) ?? []).map(value)).toFixed(0));
  console.log([title.padEnd(16), ...cells.map((cell) => cell.padStart(10))].join(''));
}
if (values.json !== undefined) {
  writeFileSync(values.json, JSON.stringify({ qemu: version, ...Object.fromEntries(results) }, undefined, 2));
}
process.exit(0);
