/**
 * Workloads in a Linux guest (`bench/guest/*.c`): time under native QEMU (TCG, thread=multi) by time under smp86, the
 * same kernel and initramfs, workload by workload in turn. Above 1 smp86 is faster.
 *
 *   node bench/guests.ts [--runs N] [--only NAME,…] [--jit on|off] [--smp N] [--json FILE] [--no-qemu]
 *                        [--bits 32] [--no-v86]
 *
 * With --bits 32: a 32-bit build and kernel on one CPU, and v86 as a third column; without the SSE workloads, since v86
 * ends at SSE3.
 *
 * An emulator that is a process of its own (QEMU, v86) is stopped while another one is measured: even an idle guest takes
 * CPU time, v86's 0.3 of a core.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { LinuxGuest } from '../test/tools/linux-guest.ts';
import { type Bits, guestProgram, workloadNames } from './guest-program.ts';
import { median, qemuVersion } from './qemu.ts';
import { startV86, V86_VERSION } from './v86.ts';

/** What all emulators have, so that the C library chooses the same code. */
const CPU = { 64: 'qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt', 32: 'qemu64' } as const;
/** Ms for all rounds of a workload. */
const TIMEOUT = 240_000;

/** ms. */
interface Sample {
  readonly checksum: string;
  readonly first: number;
  readonly time: number;
}
/** A guest of one emulator, booted when it is needed. */
class Column {
  readonly name: string;
  readonly samples = new Map<string, Sample[]>();
  /** Why a workload gave no sample. */
  readonly failures = new Map<string, string>();
  private readonly start: () => Promise<LinuxGuest>;
  private guest: LinuxGuest | undefined;

  constructor(name: string, start: () => Promise<LinuxGuest>) {
    this.name = name;
    this.start = start;
  }

  async measure(workload: string): Promise<void> {
    try {
      this.guest ??= await this.start();
      this.guest.freeze(false);
      const output = await this.guest.run(`bench ${workload}`, TIMEOUT);
      const match = /^bench \S+ ([0-9a-f]{16}) (\d+) (\d+)$/m.exec(output);
      if (match === null) throw new Error(output);
      const [, checksum, first, time] = match;
      const list = this.samples.get(workload) ?? [];
      this.samples.set(workload, list);
      list.push({ checksum, first: Number(first) / 1e6, time: Number(time) / 1e6 });
      this.guest.freeze(true);
    } catch (error) {
      this.failures.set(workload, (error as Error).message);
      await this.close();
    }
  }
  async close(): Promise<void> {
    await this.guest?.close();
    this.guest = undefined;
  }
  value(workload: string, of: 'first' | 'time'): number {
    return median((this.samples.get(workload) ?? []).map((s) => s[of]));
  }
}

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    only: { type: 'string' },
    jit: { type: 'string', default: 'on' },
    smp: { type: 'string' },
    bits: { type: 'string', default: '64' },
    v86: { type: 'boolean', default: true },
    json: { type: 'string' },
    qemu: { type: 'boolean', default: true },
  },
  allowNegative: true,
});
const bits: Bits = values.bits === '32' ? 32 : 64;
const all = workloadNames(bits);
const only = values.only?.split(',');
const unknown = only?.find((name) => !all.includes(name));
if (unknown !== undefined) throw new RangeError(`no workload '${unknown}': ${all.join(' ')}`);
const names = only ?? all;

const program = readFileSync(await guestProgram(bits));
const files = [{ path: 'bin/bench', data: program, mode: 0o755 }];
const smp = Number(values.smp ?? (bits === 32 ? 1 : 2));
const name = bits === 32 ? ('debian-i386' as const) : ('debian' as const);
const common = { guest: name, files, smp, extra: ['-cpu', CPU[bits]] };
const smp86 = new Column('smp86', () => LinuxGuest.boot({ ...common, jit: values.jit === 'on' }));
const qemu = new Column('qemu', () => LinuxGuest.boot({ ...common, emulator: 'qemu' }));
const version = values.qemu ? qemuVersion() : undefined;
if (version === undefined) console.log('without qemu-system-x86_64: no comparison');
const v86 = new Column('v86', () => LinuxGuest.boot({ ...common, start: startV86, bootTimeout: 600_000 }));
// what ends them runs at this process's exit, which such a signal alone would pass by
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));
const columns = [
  ...(version === undefined ? [] : [qemu]),
  smp86,
  ...(bits === 32 && values.v86 ? [v86] : []),
];
for (let i = 0; i < Number(values.runs); i++) {
  for (const name of names) for (const column of columns) await column.measure(name);
  for (const column of columns) await column.close();
}

/** What a workload came to; times in ms, ratios QEMU's time by smp86's. */
interface Row {
  readonly name: string;
  readonly smp86: number;
  readonly qemu: number;
  readonly ratio: number;
  readonly firstRatio: number;
  /** v86's time, and that by smp86's; NaN without it. */
  readonly v86: number;
  readonly v86Ratio: number;
  readonly trouble?: string;
}
function rowOf(name: string): Row {
  const sums = new Set(columns.flatMap((c) => (c.samples.get(name) ?? []).map((s) => s.checksum)));
  const failed = columns.find((c) => c.failures.has(name));
  const own = smp86.value(name, 'time');
  const other = qemu.value(name, 'time');
  return {
    name,
    smp86: own,
    qemu: other,
    ratio: other / own,
    v86: v86.value(name, 'time'),
    v86Ratio: v86.value(name, 'time') / own,
    firstRatio: qemu.value(name, 'first') / smp86.value(name, 'first'),
    ...(failed !== undefined
      ? { trouble: `${failed.name}: ${failed.failures.get(name)?.slice(0, 2000)}` }
      : sums.size > 1
        ? { trouble: `results differ: ${[...sums].join(' ')}` }
        : {}),
  };
}

const rows = names.map(rowOf);
console.log(
  `ms of a round after warming up for 3 s; first: the ratio in the first round; medians of ${values.runs}; jit=${values.jit}, -smp ${smp}, ${bits} bits`,
);
if (version !== undefined) console.log(version);
console.log(`load average at the end ${loadavg()[0].toFixed(1)}, ${availableParallelism()} cores`);
console.log(
  [
    'workload'.padEnd(14),
    ...['qemu', 'smp86', 'ratio', 'first', ...(columns.includes(v86) ? ['v86', 'by smp86'] : [])].map((t) =>
      t.padStart(9),
    ),
  ].join(''),
);
for (const row of rows) {
  const cells = [row.qemu.toFixed(0), row.smp86.toFixed(0), row.ratio.toFixed(2), row.firstRatio.toFixed(2)];
  if (columns.includes(v86)) cells.push(row.v86.toFixed(0), row.v86Ratio.toFixed(2));
  console.log([row.name.padEnd(14), ...cells.map((c) => c.padStart(9))].join(''));
  if (row.trouble !== undefined) {
    console.log(`  ${row.trouble}`);
    process.exitCode = 1;
  }
}
const geometricMean = (list: readonly number[]): number =>
  Math.exp(list.reduce((sum, r) => sum + Math.log(r), 0) / list.length);
const ratios = rows.map((r) => r.ratio).filter((r) => r > 0);
const mean = geometricMean(ratios);
const v86Ratios = rows.map((r) => r.v86Ratio).filter((r) => r > 0);
const least = rows.reduce((a, b) => (b.ratio < a.ratio || Number.isNaN(a.ratio) ? b : a));
if (ratios.length > 0) {
  console.log(
    `geometric mean of ${ratios.length}: ${mean.toFixed(2)}, least ${least.ratio.toFixed(2)} (${least.name})`,
  );
}
if (v86Ratios.length > 0) {
  console.log(
    `v86's time by smp86's: geometric mean of ${v86Ratios.length}: ${geometricMean(v86Ratios).toFixed(2)}`,
  );
}
if (values.json !== undefined) {
  const about = {
    date: new Date().toISOString(),
    cpu: `${availableParallelism()} x ${cpus()[0]?.model}`,
    node: process.version,
    qemu: version,
    jit: values.jit,
    smp,
    bits,
    ...(columns.includes(v86) ? { v86: V86_VERSION } : {}),
    runs: Number(values.runs),
  };
  const samples = Object.fromEntries(columns.map((c) => [c.name, Object.fromEntries(c.samples)]));
  writeFileSync(
    values.json,
    JSON.stringify({ about, rows, geometricMean: mean, least: least.ratio, samples }, undefined, 2),
  );
}
process.exit();
