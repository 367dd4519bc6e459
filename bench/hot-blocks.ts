/**
 * How often each block of a boot runs: Debian's kernel to the shell's prompt in tier 0, every jump counted
 * (`-d hotblocks`), in guest time made of instructions, so that a slow host causes no more timer interrupts.
 * The table says what compiling a block at its N-th execution would leave to tier 0.
 * `node bench/hot-blocks.ts [--guest NAME] [--smp N] [--top N] [--json FILE]`
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DEBIAN_GUESTS, type DebianGuest } from '../src/cli/guest/prepare.ts';
import { LinuxGuest } from '../test/tools/linux-guest.ts';

const TIMEOUT = 3_600_000;

const { values } = parseArgs({
  options: {
    guest: { type: 'string', default: 'debian' },
    smp: { type: 'string', default: '2' },
    top: { type: 'string', default: '10' },
    json: { type: 'string' },
  },
});
if (!(values.guest in DEBIAN_GUESTS))
  throw new RangeError(`--guest is one of ${Object.keys(DEBIAN_GUESTS).join()}`);

const directory = mkdtempSync(join(tmpdir(), 'smp86-blocks-'));
let blocks: { pc: string; count: number }[];
let instructions: number | undefined;
try {
  const file = join(directory, 'log');
  const guest = await LinuxGuest.boot({
    guest: values.guest as DebianGuest,
    smp: Number(values.smp),
    thread: 'single',
    bootTimeout: TIMEOUT,
    extra: ['-icount', 'shift=0,sleep=off', '-d', 'hotblocks', '-D', file],
  });
  await guest.machine?.pause();
  instructions = guest.machine?.instructions;
  await guest.close();
  blocks = Array.from(readFileSync(file, 'latin1').matchAll(/^(0x[0-9a-f]{16}), (\d+)$/gm), ([, pc, n]) => ({
    pc,
    count: Number(n),
  }));
} finally {
  rmSync(directory, { recursive: true, force: true });
}

const total = blocks.reduce((sum, { count }) => sum + count, 0);
const rows = Array.from({ length: 12 }, (_, i) => 4 ** i).map((n) => {
  const hot = blocks.filter(({ count }) => count >= n);
  const executions = hot.reduce((sum, { count }) => sum + count, 0);
  return { n, blocks: hot.length, executions, after: executions - n * hot.length };
});
console.log(
  `${values.guest}, ${values.smp} vCPUs: ${blocks.length} blocks jumped to, ${total} times` +
    (instructions === undefined ? '' : `, ${(instructions / total).toFixed(1)} instructions each time`),
);
console.log('jumped to at least   blocks   their part of all   after the N-th time');
const percent = (part: number): string => `${((100 * part) / total).toFixed(1)} %`;
for (const row of rows.filter((r) => r.blocks > 0)) {
  const cells = [
    `${row.n} times`.padStart(18),
    String(row.blocks).padStart(9),
    percent(row.executions).padStart(20),
    percent(row.after).padStart(22),
  ];
  console.log(cells.join(''));
}
for (const { pc, count } of blocks.sort((a, b) => b.count - a.count).slice(0, Number(values.top))) {
  console.log(`${pc}  ${percent(count)}`);
}
if (values.json !== undefined) {
  writeFileSync(values.json, JSON.stringify({ total, instructions, rows, blocks }, undefined, 2));
}
process.exit(0);
