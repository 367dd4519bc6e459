/**
 * Guest instructions per second in small loops and in 4 000 distinct instructions: tier 0 alone, with tier 1, and
 * native QEMU's TCG, in turn in one run. `node bench/mips.ts [--runs N] [--json FILE]`
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Machine } from '../src/machine/machine.ts';
import { median, qemuVersion, runQemu } from './qemu.ts';

const PM_TIMER_HZ = 3_579_545;
const KERNEL = fileURLToPath(new URL('guest/mips.bin', import.meta.url));
const DEVICE = 'isa-debug-exit,iobase=0x501,iosize=2';

/** Lines `name instructions ticks`, in hex: millions of instructions a second by name. */
function parse(output: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, name, count, ticks] of output.matchAll(/^(\w+) ([0-9a-f]{16}) ([0-9a-f]{16})\s*$/gm)) {
    found.set(name, (parseInt(count, 16) * PM_TIMER_HZ) / parseInt(ticks, 16) / 1e6);
  }
  return found;
}

async function smp86(jit: boolean): Promise<Map<string, number>> {
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
async function qemu(): Promise<Map<string, number>> {
  // the serial output begins after the firmware's, on the same line
  const { output } = await runQemu(['-cpu', 'max', '-m', '64M', '-kernel', KERNEL, '-device', DEVICE]);
  return parse(output.replace(/^.*ROM\.\./m, ''));
}

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '3' }, json: { type: 'string' } },
});
const columns = new Map<string, () => Promise<Map<string, number>>>([
  ['tier 0', () => smp86(false)],
  ['tier 0+1', () => smp86(true)],
]);
const version = qemuVersion();
if (version === undefined) console.log('qemu-system-x86_64 is missing: no comparison');
else columns.set('qemu tcg', qemu);

const samples = new Map<string, Map<string, number[]>>();
for (let run = 0; run < Number(values.runs); run++) {
  for (const [column, measure] of columns) {
    for (const [name, mips] of await measure()) {
      const row = samples.get(name) ?? new Map<string, number[]>();
      samples.set(name, row);
      row.set(column, [...(row.get(column) ?? []), mips]);
    }
  }
}
console.log(`million guest instructions a second, medians of ${values.runs}${version ? `; ${version}` : ''}`);
console.log(
  ['kernel'.padEnd(10), ...[...columns.keys()].map((c) => c.padStart(10)), 'ratio'.padStart(8)].join(''),
);
const rows = [...samples].map(([name, row]) => ({
  name,
  ...Object.fromEntries([...row].map(([column, list]) => [column, median(list)])),
}));
for (const [name, row] of samples) {
  const value = (column: string): number => median(row.get(column) ?? [NaN]);
  const cells = [...columns.keys()].map((c) => value(c).toFixed(0).padStart(10));
  const ratio = version === undefined ? '' : (value('tier 0+1') / value('qemu tcg')).toFixed(2);
  console.log([name.padEnd(10), ...cells, ratio.padStart(8)].join(''));
}
if (values.json !== undefined)
  writeFileSync(values.json, JSON.stringify({ qemu: version, rows }, undefined, 2));
