/** Runs a bare-metal program on smp86 and on native QEMU; what it prints on COM1 is the result. */
import { spawn, spawnSync } from 'node:child_process';
import { parseOptions } from '../../src/cli/options.ts';
import type { RegionInfo } from '../../src/jit/compiler.ts';
import { Machine } from '../../src/machine/machine.ts';

const COMMON =
  '-display none -serial stdio -no-reboot -m 64 -device isa-debug-exit,iobase=0xf4,iosize=4'.split(' ');
const DEFAULT_CPU = 'max';

export const hasQemu = spawnSync('qemu-system-x86_64', ['-version']).status === 0;

export interface BareResult {
  readonly output: string;
  readonly status: number | null;
  /** smp86: the interpreters are optimised code. */
  readonly optimised?: boolean;
}

function commandLine(kernel: string, options: readonly string[]): string[] {
  const cpu = options.includes('-cpu') ? [] : ['-cpu', DEFAULT_CPU];
  return [...COMMON, ...cpu, ...options, '-kernel', kernel];
}

function timeLimit(timeoutMs: number): { promise: Promise<'timeout'>; cancel: () => void } {
  let timer: NodeJS.Timeout;
  const promise = new Promise<'timeout'>((resolve) => {
    timer = setTimeout(() => resolve('timeout'), timeoutMs);
  });
  return { promise, cancel: () => clearTimeout(timer) };
}

/** A program that runs on smp86 in this process. */
export interface BareRun extends AsyncDisposable {
  readonly machine: Machine;
  /** What it has printed so far. */
  readonly output: string;
  /** Waits for its end. The output ends with "timeout" when it did not end in time. */
  end(timeoutMs: number): Promise<BareResult>;
}

/** Starts a program on smp86 in this process. */
export async function startSmp86(kernel: string, options: readonly string[]): Promise<BareRun> {
  const machine = await Machine.create(parseOptions(commandLine(kernel, options)));
  let output = '';
  const serial = machine.serial[0];
  if (serial === undefined) throw new Error('no COM1');
  serial.on('data', (data: Buffer) => (output += data.toString('latin1')));
  const ended = new Promise<void>((resolve) => serial.once('close', () => resolve()));
  return {
    machine,
    get output() {
      return output;
    },
    end: async (timeoutMs) => {
      const limit = timeLimit(timeoutMs);
      try {
        const exit = await Promise.race([machine.exit, limit.promise]);
        if (exit === 'timeout') {
          await machine.quit();
          return { output: `${output}timeout\n`, status: null };
        }
        await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 500))]);
        return { output, status: exit.status, optimised: machine.optimised };
      } finally {
        limit.cancel();
      }
    },
    [Symbol.asyncDispose]: () => machine.quit(),
  };
}

/** Heads of regions, guest-physical. */
export interface RegionsSeen {
  readonly entered: ReadonlySet<number>;
  /** Of those, the ones that a change of their code ended. */
  readonly dropped: ReadonlySet<number>;
}

/** Looks every `ms` which of the regions that are `wanted` there are, and tells `seen` what it has seen and what is there now. */
export function watchRegions(
  machine: Machine,
  ms: number,
  wanted: (region: RegionInfo) => boolean,
  seen: (regions: RegionsSeen, valid: readonly RegionInfo[]) => void,
): { end(): RegionsSeen } {
  const entered = new Set<number>();
  const dropped = new Set<number>();
  const timer = setInterval(() => {
    void machine.regions().then((regions) => {
      const meant = regions.filter(wanted);
      for (const { head, valid } of meant) {
        entered.add(head);
        if (!valid) dropped.add(head);
      }
      seen(
        { entered, dropped },
        meant.filter(({ valid }) => valid),
      );
    });
  }, ms);
  return {
    end() {
      clearInterval(timer);
      return { entered, dropped };
    },
  };
}

/** Runs on smp86 in this process. The output ends with "timeout" when the program did not end in time. */
export async function runSmp86(
  kernel: string,
  options: readonly string[],
  timeoutMs: number,
): Promise<BareResult> {
  await using run = await startSmp86(kernel, options);
  return await run.end(timeoutMs);
}

/** Runs on native QEMU. */
export async function runQemu(
  kernel: string,
  options: readonly string[],
  timeoutMs: number,
): Promise<BareResult> {
  const accel = options.includes('-accel') ? [] : ['-accel', 'tcg,thread=multi'];
  const args = [...accel, '-monitor', 'none', ...commandLine(kernel, options)];
  const child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString('latin1')));
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  const limit = timeLimit(timeoutMs);
  const status = await Promise.race([closed, limit.promise]);
  limit.cancel();
  if (status !== 'timeout') return { output, status };
  child.kill('SIGKILL');
  return { output: `${output}timeout\n`, status: null };
}
