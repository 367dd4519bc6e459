/**
 * Kills a writer with SIGKILL at random moments, again and again on the same image: a process that uses the block layer,
 * or all of smp86 whose guest writes. Each time the image must open, `qemu-img check` must find no error but leaks, and
 * every write that a flush acknowledged must be there.
 * `node test/tools/disk-crash.ts [--kills 300] [--seed N] [--guest] [--cluster-size 4096] [--options lazy_refcounts=on]`
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BLOCK, BLOCKS, blockOf, IMAGE_SIZE } from './crash-writer.ts';
import { type GuestConsole, LinuxGuest, startEmulator } from './linux-guest.ts';

export interface CrashOptions {
  readonly kills: number;
  readonly seed: number;
  /** For `qemu-img create -o`. */
  readonly create: string;
  /** A guest of smp86 writes. */
  readonly guest?: boolean;
  readonly log?: (line: string) => void;
}

export interface CrashResult {
  readonly kills: number;
  /** Times that clusters were leaked. */
  readonly leaks: number;
  /** Writes that flushes acknowledged. */
  readonly acknowledged: number;
}

const WRITER = new URL('crash-writer.ts', import.meta.url).pathname;
const GUEST_WRITER = new URL('crash-guest.c', import.meta.url).pathname;
const SMP86 = new URL('../../src/cli/smp86.ts', import.meta.url).pathname;
/** ms after the first flush */
const LONGEST_LIFE = 300;
const LONGEST_GUEST_LIFE = 1500;

/** Somebody who writes, from the first flush on. */
interface Writer {
  /** The last write that a flush has acknowledged. */
  covered(): number;
  /** SIGKILL; resolves when it is gone. Throws when it had ended by itself. */
  kill(): Promise<void>;
}

async function startProcess(image: string, first: number, seed: number): Promise<Writer> {
  const child = spawn(process.execPath, [WRITER, image, String(first), String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('latin1').on('data', (text: string) => (output += text));
  const closed = once(child, 'close');
  await Promise.race([once(child.stdout, 'data'), closed]);
  return {
    covered: () => Number(/(\d+)\n[^\n]*$/.exec(output)?.[1] ?? 0),
    kill: async () => {
      if (child.exitCode !== null) throw new Error('the writer ended by itself');
      child.kill('SIGKILL');
      await closed;
    },
  };
}

/** smp86 as a process of its own, with a guest that runs `program`. */
async function startGuest(program: string, image: string, first: number, seed: number): Promise<Writer> {
  const disk = [
    ...['-object', 'iothread,id=io0', '-drive', `file=${image},format=qcow2,if=none,id=d0,discard=unmap`],
    ...['-device', 'virtio-blk-pci,drive=d0,iothread=io0'],
  ];
  const guest = await LinuxGuest.boot({
    modules: ['virtio_pci', 'virtio_blk'],
    bootTimeout: 600_000,
    files: [{ path: 'bin/crash-guest', data: readFileSync(program), mode: 0o755 }],
    start: async ({ kernel, initrd, append }, _, received): Promise<GuestConsole> => {
      const args = ['-kernel', kernel, '-initrd', initrd, '-append', append];
      const options = ['-smp', '2', '-m', '256M', '-nographic'];
      return startEmulator(process.execPath, [SMP86, ...options, ...args, ...disk], received);
    },
  });
  guest.write(`crash-guest /dev/vda ${first} ${seed}\n`);
  const lines = (): RegExpExecArray[] => [...guest.output.matchAll(/^covered (\d+)\n/gm)];
  await guest.until(() => (lines().length > 0 ? true : undefined), 0, 120_000);
  return {
    covered: () => Number(lines().at(-1)?.[1] ?? 0),
    kill: async () => {
      if (guest.ended !== undefined || guest.output.endsWith('# '))
        throw new Error('the guest ended by itself');
      await guest.close();
    },
  };
}

/** Throws at the first image that is damaged. */
export async function crashDisk({ kills, seed, create, guest, log }: CrashOptions): Promise<CrashResult> {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-crash-'));
  const image = join(directory, 'disk.qcow2');
  const raw = join(directory, 'disk.raw');
  const program = join(directory, 'crash-guest');
  if (guest) execFileSync('gcc', ['-O2', '-static', '-o', program, GUEST_WRITER]);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', create, image, String(IMAGE_SIZE)]);
  /** By block: the last write that is known to be stable. */
  const stable = new Map<number, number>();
  let known = 0;
  let leaks = 0;
  let acknowledged = 0;
  try {
    for (let kill = 0; kill < kills; kill++) {
      // numbers of writes whose fate is not known are not used again
      const first = known + 1_000_000 * (kill === 0 ? 0 : 1) + 1;
      const writer = guest
        ? await startGuest(program, image, first, seed)
        : await startProcess(image, first, seed);
      const life = guest ? LONGEST_GUEST_LIFE : LONGEST_LIFE;
      await new Promise((resolve) => setTimeout(resolve, ((kill * 7919 + seed) % 97) * (life / 97)));
      await writer.kill();
      const covered = writer.covered();
      for (let i = first; i <= covered; i++) stable.set(blockOf(seed, i), i);
      acknowledged += Math.max(0, covered - first + 1);
      known = Math.max(known, covered, first);
      const check = spawnSync('qemu-img', ['check', '-q', image], { encoding: 'utf8' });
      if (check.status !== 0 && check.status !== 3) {
        throw new Error(`kill ${kill}: qemu-img check: ${check.status}\n${check.stdout}${check.stderr}`);
      }
      if (check.status === 3) {
        leaks++;
        execFileSync('qemu-img', ['check', '-q', '-r', 'leaks', image], { stdio: 'ignore' });
      }
      execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw]);
      verify(readFileSync(raw), stable, seed, `kill ${kill}`);
      log?.(`${kill + 1}/${kills}: ${acknowledged} writes acknowledged, clusters leaked ${leaks} times`);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return { kills, leaks, acknowledged };
}

function verify(disk: Buffer, stable: ReadonlyMap<number, number>, seed: number, when: string): void {
  for (let block = 0; block < BLOCKS; block++) {
    const words = new Uint32Array(disk.buffer, disk.byteOffset + block * BLOCK, BLOCK / 4);
    const number = words[0];
    const least = stable.get(block) ?? 0;
    if (number < least)
      throw new Error(`${when}: block ${block} has write ${number}, but ${least} was flushed`);
    if (number !== 0 && blockOf(seed, number) !== block) {
      throw new Error(`${when}: block ${block} has write ${number}, which is another block's`);
    }
    for (const word of words) {
      // writes in flight may be half done, but only between two that are this block's
      if (word < least || (word !== 0 && blockOf(seed, word) !== block)) {
        throw new Error(`${when}: block ${block} has ${word} beside ${number}`);
      }
    }
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '300' },
      seed: { type: 'string', default: '1' },
      guest: { type: 'boolean', default: false },
      'cluster-size': { type: 'string', default: '4096' },
      options: { type: 'string', default: '' },
    },
  });
  const create = [`cluster_size=${values['cluster-size']}`, values.options].filter((o) => o !== '').join(',');
  const result = await crashDisk({
    kills: Number(values.kills),
    seed: Number(values.seed),
    create,
    guest: values.guest,
    log: (line) => process.stdout.write(`\r${line}`),
  });
  console.log(
    `\n${result.kills} kills: no corruption, nothing acknowledged lost (${JSON.stringify(result)})`,
  );
}
