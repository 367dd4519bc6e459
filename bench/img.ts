/**
 * `smp86 img`, as the package has it, beside qemu-img: processes from start to end, in turn in one run, as ratios of their
 * times (above 1: smp86 is faster). `node bench/img.ts [--size MIB] [--runs N] [--only TEXT] [--directory DIR] [--json FILE]`
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from './qemu.ts';

const SMP86 = fileURLToPath(new URL('../dist/src/cli/smp86.js', import.meta.url));
const BUILD = fileURLToPath(new URL('../tools/build.ts', import.meta.url));
const MIB = 1 << 20;

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1024' },
    runs: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    directory: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
  },
});

/** What is measured: name, arguments, where `IN` is the directory of the sources and `OUT` a file that is not there. */
const CASES: readonly (readonly [name: string, args: string])[] = [
  ['start: info', 'info IN/plain.qcow2'],
  ['convert raw → qcow2', 'convert -f raw -O qcow2 IN/disk.raw OUT'],
  ['convert qcow2 → qcow2', 'convert -f qcow2 -O qcow2 IN/plain.qcow2 OUT'],
  ['convert qcow2 → raw', 'convert -f qcow2 -O raw IN/plain.qcow2 OUT'],
  ['convert -c raw → qcow2', 'convert -c -f raw -O qcow2 IN/disk.raw OUT'],
  ['convert -c qcow2 → qcow2', 'convert -c -f qcow2 -O qcow2 IN/plain.qcow2 OUT'],
  ['convert -c -W qcow2 → qcow2', 'convert -c -W -f qcow2 -O qcow2 IN/plain.qcow2 OUT'],
  ['convert -c, zstd', 'convert -c -o compression_type=zstd -f raw -O qcow2 IN/disk.raw OUT'],
  ['convert compressed → qcow2', 'convert -f qcow2 -O qcow2 IN/packed.qcow2 OUT'],
  ['convert compressed → raw', 'convert -f qcow2 -O raw IN/packed.qcow2 OUT'],
  ['compare raw, qcow2', 'compare -f raw -F qcow2 IN/disk.raw IN/plain.qcow2'],
  ['check', 'check IN/plain.qcow2'],
];

/** A quarter random, a quarter text-like, a quarter zeroes that are there, a quarter holes; in pieces of 1 MiB. */
function makeDisk(path: string, mebibytes: number): void {
  const random = Buffer.alloc(MIB);
  const text = Buffer.alloc(MIB);
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
  const word = (): string =>
    `${['disk', 'block', 'image', 'cluster', 'table'][next() % 5]}${next() % 10000} `;
  for (let at = 0; at < MIB;) at += text.write(word(), at);
  const fd = openSync(path, 'w');
  for (let i = 0; i < mebibytes; i++) {
    if (i % 4 === 0) {
      for (let at = 0; at < MIB; at += 4) random.writeUInt32LE((next() ^ (next() << 12)) >>> 0, at);
      writeSync(fd, random, 0, MIB, i * MIB);
    } else if (i % 4 === 1) {
      text.writeUInt32LE(next(), next() % (MIB - 4));
      writeSync(fd, text, 0, MIB, i * MIB);
    } else if (i % 4 === 2) {
      writeSync(fd, Buffer.alloc(MIB), 0, MIB, i * MIB);
    }
  }
  writeSync(fd, Buffer.of(1), 0, 1, mebibytes * MIB - 1);
  closeSync(fd);
}

/** ms: from start to end, and of all threads' CPU time, which other work on this host disturbs less. */
interface Times {
  readonly wall: number;
  readonly cpu: number;
}

function time(command: string, args: readonly string[]): Times {
  const script = 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null';
  const { status, stderr } = spawnSync('bash', ['-c', script, '_', command, ...args], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  const [wall, user, system] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { wall: wall * 1000, cpu: (user + system) * 1000 };
}

interface Row {
  readonly name: string;
  readonly qemu: Times;
  readonly smp86: Times;
}

function measure(directory: string, name: string, args: string, runs: number): Row {
  const results = { qemu: [] as Times[], smp86: [] as Times[] };
  const out = join(directory, 'out');
  const words = args.split(' ').map((word) => word.replace('IN', directory).replace('OUT', out));
  for (let run = 0; run < runs; run++) {
    for (const who of ['qemu', 'smp86'] as const) {
      const command = who === 'qemu' ? 'qemu-img' : process.execPath;
      results[who].push(time(command, who === 'qemu' ? words : [SMP86, 'img', ...words]));
      if (args.endsWith('OUT') && run === 0 && who === 'smp86') verify(directory, out, words);
      rmSync(out, { force: true });
    }
  }
  const middle = (times: readonly Times[]): Times => ({
    wall: median(times.map(({ wall }) => wall)),
    cpu: median(times.map(({ cpu }) => cpu)),
  });
  return { name, qemu: middle(results.qemu), smp86: middle(results.smp86) };
}

/** What smp86 made is right. */
function verify(directory: string, out: string, words: readonly string[]): void {
  const format = words[words.indexOf('-O') + 1];
  execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', format, join(directory, 'disk.raw'), out]);
  if (format === 'qcow2') execFileSync('qemu-img', ['check', '-q', out]);
}

execFileSync(process.execPath, [BUILD], { stdio: 'inherit' });
const directory = mkdtempSync(join(values.directory, 'smp86-bench-img-'));
try {
  const raw = join(directory, 'disk.raw');
  makeDisk(raw, Number(values.size));
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, join(directory, 'plain.qcow2')]);
  execFileSync('qemu-img', [
    'convert',
    '-c',
    '-f',
    'raw',
    '-O',
    'qcow2',
    raw,
    join(directory, 'packed.qcow2'),
  ]);
  const rows: Row[] = [];
  console.log(`${values.size} MiB, median of ${values.runs} runs in turn; ms`);
  for (const [name, args] of CASES) {
    if (!name.includes(values.only)) continue;
    const row = measure(directory, name, args, Number(values.runs));
    rows.push(row);
    const { qemu, smp86 } = row;
    const column = (value: number): string => value.toFixed(0).padStart(6);
    const ratio = (what: 'wall' | 'cpu'): string => (qemu[what] / smp86[what]).toFixed(2);
    console.log(
      `${name.padEnd(30)} qemu-img ${column(qemu.wall)} (cpu ${column(qemu.cpu)})   ` +
        `smp86 ${column(smp86.wall)} (cpu ${column(smp86.cpu)})   ratio ${ratio('wall')} (cpu ${ratio('cpu')})`,
    );
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, undefined, 2)}\n`);
} finally {
  rmSync(directory, { recursive: true });
}
