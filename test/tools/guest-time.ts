/**
 * Time in a Linux guest: does it keep pace with the host, does it ever go backwards between vCPUs?
 *
 *   node test/tools/guest-time.ts [--smp N] [--seconds S] [--emulator smp86|qemu] [--append TEXT]
 *
 * The campaign: 300 s by default. Ends with status 1 when time went backwards or drifted by more than 100 ppm.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { ExtraFile } from '../../src/cli/guest/initramfs.ts';
import { type Emulator, LinuxGuest } from './linux-guest.ts';

export const MAX_DRIFT = 100;
const SAMPLES = 60;
const PATH = '/bin/time-check';

/** Is there a C compiler? */
export function hasCompiler(): boolean {
  return spawnSync('gcc', ['--version']).status === 0;
}

/** The program for the initramfs. *Errors:* those of gcc. */
export function timeCheckProgram(): ExtraFile {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-time-check-'));
  try {
    const output = join(directory, 'time-check');
    const source = fileURLToPath(new URL('time-check.c', import.meta.url));
    execFileSync('gcc', ['-O2', '-Wall', '-static', '-pthread', '-o', output, source]);
    return { path: PATH.slice(1), data: readFileSync(output), mode: 0o755 };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** One moment by the host's clock and by the guest's, in ns. */
interface Correlation {
  readonly host: number;
  readonly guest: number;
  readonly tsc: number;
  /** The guest's reading was made within this of `host`. */
  readonly error: number;
}

/** A clock to compare with, in ns. */
export type ReferenceClock = () => number;
const hostClock: ReferenceClock = () => performance.now() * 1e6;

/** Asks for the guest's time again and again; the shortest round trip tells most. */
async function correlate(guest: LinuxGuest, clock: ReferenceClock): Promise<Correlation> {
  let best: Correlation | undefined;
  for (let i = 0; i < SAMPLES; i++) {
    const from = guest.output.length;
    const sent = clock();
    guest.write('\n');
    const [, monotonic, tsc] = await guest.until(
      (text) => /stamp (\d+) (\d+) (\d+)\n/.exec(text) ?? undefined,
      from,
      30_000,
    );
    const received = clock();
    const error = (received - sent) / 2;
    if (best === undefined || error < best.error) {
      best = { host: (sent + received) / 2, guest: Number(monotonic), tsc: Number(tsc), error };
    }
    await sleep(5);
  }
  return best!;
}

export interface Drift {
  /** How much faster than the other clock the guest's CLOCK_MONOTONIC runs, in parts per million. */
  readonly ppm: number;
  /** What the measurement itself may be wrong by. */
  readonly error: number;
  /** The TSC's frequency in Hz by the other clock. */
  readonly tscHz: number;
}

/** Compares clocks over `seconds`, while `meanwhile` runs in the guest. `clock`: default, the host's. */
export async function measureDrift(
  guest: LinuxGuest,
  seconds: number,
  meanwhile?: () => Promise<void>,
  clock = hostClock,
): Promise<Drift> {
  const moment = async (): Promise<Correlation> => {
    const from = guest.output.length;
    guest.write(`${PATH} stamp\n`);
    await guest.until((text) => (text.includes(' stamp\n') ? true : undefined), from, 30_000);
    const result = await correlate(guest, clock);
    const end = guest.output.length;
    guest.write('q\n');
    await guest.prompt(end);
    return result;
  };
  const begin = await moment();
  const started = performance.now();
  await meanwhile?.();
  await sleep(Math.max(0, seconds * 1000 - (performance.now() - started)));
  const end = await moment();
  const span = end.host - begin.host;
  return {
    ppm: ((end.guest - begin.guest) / span - 1) * 1e6,
    error: ((begin.error + end.error) / span) * 1e6,
    tscHz: ((end.tsc - begin.tsc) / span) * 1e9,
  };
}

export interface Order {
  readonly clock: string;
  readonly checks: number;
  readonly backwards: number;
  /** Longest step back, in ns or ticks. */
  readonly worst: number;
}

/** Has all vCPUs compare their clocks for `seconds`. */
export async function checkOrder(guest: LinuxGuest, seconds: number): Promise<Order[]> {
  const output = await guest.run(`${PATH} order ${seconds}`, seconds * 4000 + 60_000);
  return [...output.matchAll(/^(\w+) checks (\d+) backwards (\d+) worst (\d+)$/gm)].map(
    ([, clock, checks, backwards, worst]) => ({
      clock,
      checks: Number(checks),
      backwards: Number(backwards),
      worst: Number(worst),
    }),
  );
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      smp: { type: 'string', default: '2' },
      seconds: { type: 'string', default: '300' },
      emulator: { type: 'string', default: 'smp86' },
      append: { type: 'string', default: '' },
    },
  });
  const seconds = Number(values.seconds);
  await using guest = await LinuxGuest.boot({
    emulator: values.emulator as Emulator,
    smp: Number(values.smp),
    append: values.append,
    files: [timeCheckProgram()],
  });
  const source = await guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource');
  let orders: Order[] = [];
  const drift = await measureDrift(guest, seconds, async () => {
    orders = await checkOrder(guest, Math.ceil(seconds / 2));
  });
  for (const { clock, checks, backwards, worst } of orders) {
    console.log(`${clock}: ${checks} readings, ${backwards} before the latest, by up to ${worst}`);
  }
  console.log(
    `clocksource ${source}: ${drift.ppm.toFixed(1)} ppm (± ${drift.error.toFixed(1)}) against the host over ` +
      `${seconds} s; TSC ${(drift.tscHz / 1e6).toFixed(3)} MHz`,
  );
  const good = orders.length === 2 && orders.every((o) => o.backwards === 0);
  return good && Math.abs(drift.ppm) <= MAX_DRIFT + drift.error ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exit(await main());
