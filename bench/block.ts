/**
 * Speed of a guest's disk: smp86 and native QEMU (TCG, thread=multi), with the same guest and copies of the same qcow2
 * image on virtio-blk with an iothread, in turn in one run, and how many interrupts a request took. Each case runs twice: the
 * first round is that of an emulator that has not met this code of the guest's yet. And what a busy loop on one vCPU loses while
 * the other writes.
 * `node bench/block.ts [--runs N] [--seconds N] [--json FILE]`; needs gcc with a static libc, qemu-img.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Emulator, LinuxGuest } from '../test/tools/linux-guest.ts';
import { median, qemuVersion } from './qemu.ts';

const SIZE_MB = 256;
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});

interface Case {
  readonly name: string;
  readonly args: string;
}
const CASES: readonly Case[] = [
  { name: 'sequential read, 1 MiB, depth 4', args: 'read seq 1048576 4' },
  { name: 'sequential write, 1 MiB, depth 4', args: 'write seq 1048576 4' },
  { name: 'random read, 4 KiB, depth 1', args: 'read rand 4096 1' },
  { name: 'random read, 4 KiB, depth 32', args: 'read rand 4096 32' },
  { name: 'random write, 4 KiB, depth 1', args: 'write rand 4096 1' },
  { name: 'random write, 4 KiB, depth 32', args: 'write rand 4096 32' },
];
const LOOP_ALONE = 'loop alone';
const LOOP_BESIDE = 'loop beside a writer';

const directory = mkdtempSync(join(tmpdir(), 'smp86-bench-block-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
const program = join(directory, 'block');
const source = fileURLToPath(new URL('guest/block.c', import.meta.url));
execFileSync('gcc', ['-O2', '-static', '-o', program, source]);
const raw = join(directory, 'disk.raw');
writeFileSync(raw, Buffer.alloc(SIZE_MB << 20, 0x5a));
const image = join(directory, 'disk.qcow2');
execFileSync('qemu-img', ['convert', '-O', 'qcow2', raw, image]);
rmSync(raw);

function firstOf(name: string): string {
  return `${name}, first`;
}

/** Figures of one guest: bytes or turns a second. */
async function measure(emulator: Emulator): Promise<Map<string, number>> {
  const copy = join(directory, `${emulator}.qcow2`);
  copyFileSync(image, copy);
  await using guest = await LinuxGuest.boot({
    emulator,
    modules: ['virtio_pci', 'virtio_blk'],
    files: [{ path: 'bin/block', data: readFileSync(program), mode: 0o755 }],
    extra: [
      ...['-object', 'iothread,id=io0', '-drive', `file=${copy},format=qcow2,if=none,id=d0`],
      ...['-device', 'virtio-blk-pci,drive=d0,iothread=io0'],
    ],
  });
  const figures = new Map<string, number>();
  const number = (output: string, pattern: RegExp): number => Number(pattern.exec(output)?.[1]);
  for (const { name, args } of CASES) {
    const round = `block /dev/vda ${args} ${values.seconds}`;
    figures.set(firstOf(name), number(await guest.run(round), /bytes (\d+)/));
    const before = await interrupts(guest);
    const output = await guest.run(round);
    const count = (await interrupts(guest)) - before;
    figures.set(name, number(output, /bytes (\d+)/));
    figures.set(interruptsOf(name), count / number(output, /requests ([\d.]+)/) / Number(values.seconds));
  }
  // one process for both: a new one would be compiled anew, beside the writer or not
  const half = Number(values.seconds) + 1;
  const writer = `taskset -c 1 block /dev/vda write rand 4096 32 ${half + 1}`;
  const output = await guest.run(
    `(sleep ${half}; ${writer} > /dev/null) & taskset -c 0 block spin ${2 * half}; wait`,
  );
  const seconds = [...output.matchAll(/^spin (\d+)$/gm)].map(([, turns]) => Number(turns));
  // the first second of each half is that of a beginning
  const middle = Math.floor(seconds.length / 2);
  figures.set(LOOP_ALONE, median(seconds.slice(1, middle)));
  figures.set(LOOP_BESIDE, median(seconds.slice(middle + 1)));
  return figures;
}

/** Interrupts of the disk's queues so far. */
async function interrupts(guest: LinuxGuest): Promise<number> {
  const table = await guest.run('cat /proc/interrupts');
  const queues = table.split('\n').filter((line) => /virtio\d+-req/.test(line));
  return queues
    .flatMap((line) => line.match(/(?<=\s)\d+(?=\s)/g) ?? [])
    .reduce((sum, n) => sum + Number(n), 0);
}
function interruptsOf(name: string): string {
  return `${name}, interrupts`;
}

const emulators: Emulator[] = qemuVersion() === undefined ? ['smp86'] : ['smp86', 'qemu'];
const results = new Map<Emulator, Map<string, number>[]>(emulators.map((e) => [e, []]));
for (let run = 0; run < Number(values.runs); run++) {
  for (const emulator of emulators) results.get(emulator)?.push(await measure(emulator));
}
const figure = (emulator: Emulator, name: string): number =>
  median((results.get(emulator) ?? []).map((figures) => figures.get(name) ?? NaN));
console.log(
  `${qemuVersion() ?? 'no QEMU'}; medians of ${values.runs}, second round of ${values.seconds} s each`,
);
for (const { name } of CASES) {
  const mine = figure('smp86', name);
  const theirs = figure('qemu', name);
  const first = figure('smp86', firstOf(name)) / figure('qemu', firstOf(name));
  const megabytes = (value: number): string => `${(value / 1e6).toFixed(1)} MB/s`.padStart(12);
  const each = emulators.map((e) => figure(e, interruptsOf(name)).toFixed(2)).join(', ');
  console.log(
    `${name.padEnd(34)}${megabytes(mine)}${megabytes(theirs)}  ratio ${(mine / theirs).toFixed(2)}` +
      ` (first round ${first.toFixed(2)})  interrupts a request ${each}`,
  );
}
const left = (emulator: Emulator): string =>
  `${((100 * figure(emulator, LOOP_BESIDE)) / figure(emulator, LOOP_ALONE)).toFixed(1)} %`;
console.log(
  `a loop keeps, while the other vCPU writes: ${emulators.map((e) => `${e} ${left(e)}`).join(', ')}`,
);
if (values.json !== undefined) {
  const plain = Object.fromEntries(
    [...results].map(([e, list]) => [e, list.map((f) => Object.fromEntries(f))]),
  );
  writeFileSync(values.json, JSON.stringify(plain, undefined, 2));
}
process.exit(0);
