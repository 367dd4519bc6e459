/**
 * A Linux guest at its shell, under smp86 (in this process, through the library) or under QEMU (a child process):
 * what the tests of real guests, the campaigns and the benchmarks share.
 */
import { spawn } from 'node:child_process';
import { parseOptions } from '../../src/cli/options.ts';
import { Machine } from '../../src/machine/machine.ts';
import type { DebianGuest, PreparedGuest, PrepareOptions } from '../../src/cli/guest/prepare.ts';
import { prepareDebian } from '../../src/cli/guest/prepare.ts';

export type Emulator = 'smp86' | 'qemu';

export interface GuestOptions extends Pick<PrepareOptions, 'files' | 'modules' | 'rc'> {
  /** Default smp86. */
  readonly emulator?: Emulator;
  /** Another emulator, instead: starts it with a kernel. */
  readonly start?: (
    guest: PreparedGuest,
    append: string,
    received: (bytes: Uint8Array) => void,
  ) => Promise<GuestConsole>;
  /** Default debian. */
  readonly guest?: DebianGuest;
  /** Instead of `guest`. */
  readonly prepared?: PreparedGuest;
  /** Default 2. */
  readonly smp?: number;
  /** Default multi. */
  readonly thread?: 'multi' | 'single';
  /** Of smp86; default: its own. */
  readonly jit?: boolean;
  /** Default 512M. */
  readonly memory?: string;
  /** Added to the kernel command line. */
  readonly append?: string;
  /** Further emulator options. */
  readonly extra?: readonly string[];
  /** Ms until the first prompt; default 180 000. */
  readonly bootTimeout?: number;
  /** Gets the guest's output as it comes. */
  readonly onOutput?: (text: string) => void;
}

/** How the guest's machine ended. */
export interface GuestExit {
  readonly reason: string;
  readonly status: number | null;
}

const PROMPT = /smp86:[^\n]*[#$] $/;
const MARK = 'smp86-done';
let commands = 0;

/** What the emulator offers; the rest is above it. */
export interface GuestConsole {
  write(text: string): void;
  readonly exit: Promise<GuestExit>;
  kill(): Promise<void>;
  /** Of a process: stops it, or lets it go on. */
  freeze?(frozen: boolean): void;
}

export class GuestError extends Error {
  readonly code = 'ERR_GUEST_TEST';
}

export class LinuxGuest {
  /** All that the guest printed, without carriage returns. */
  output = '';
  /** Ms from start to the first prompt. */
  bootMs = 0;
  private console: GuestConsole | undefined;
  /** The machine, when it is smp86. */
  machine: Machine | undefined;
  /** How it ended, when it has. */
  ended: GuestExit | undefined;
  private readonly options: GuestOptions;
  private readonly wakers = new Set<() => void>();
  private readonly decoder = new TextDecoder();
  private held = '';

  private constructor(options: GuestOptions) {
    this.options = options;
  }

  /** Starts the guest without waiting for anything. *Errors:* GuestError of `prepareDebian`, BootError. */
  static async start(options: GuestOptions = {}): Promise<LinuxGuest> {
    const guest = new LinuxGuest(options);
    const prepared =
      options.prepared ??
      (await prepareDebian(options.guest ?? 'debian', {
        files: options.files,
        modules: options.modules,
        rc: options.rc,
        log: () => {},
      }));
    const smp = options.smp ?? 2;
    const jit = options.jit === undefined ? '' : `,jit=${options.jit ? 'on' : 'off'}`;
    const args = [
      ...['-accel', `tcg,thread=${options.thread ?? 'multi'}${options.emulator === 'qemu' ? '' : jit}`],
      ...['-smp', String(smp), '-m', options.memory ?? '512M', '-nographic'],
      ...['-kernel', prepared.kernel, '-initrd', prepared.initrd],
      ...['-append', `${prepared.append} ${options.append ?? ''}`.trim()],
      ...(options.extra ?? []),
    ];
    const start = async (): Promise<GuestConsole> => {
      if (options.start !== undefined) {
        return await options.start(prepared, options.append ?? '', (bytes) => guest.received(bytes));
      }
      if (options.emulator !== 'qemu') return await startSmp86(args, guest);
      return startEmulator('qemu-system-x86_64', args, (bytes) => guest.received(bytes));
    };
    const console = await start();
    guest.console = console;
    void console.exit.then((exit) => {
      guest.ended = exit;
      guest.wake();
    });
    return guest;
  }

  /** Starts the guest and waits for its shell. */
  static async boot(options: GuestOptions = {}): Promise<LinuxGuest> {
    const begin = performance.now();
    const guest = await LinuxGuest.start(options);
    try {
      await guest.prompt(0, options.bootTimeout);
      guest.bootMs = performance.now() - begin;
      // what the kernel prints later would be taken for a command's output
      await guest.run('dmesg -n 1');
      return guest;
    } catch (error) {
      await guest.close();
      throw error;
    }
  }

  /** Takes output of the guest. Called by the console. */
  received(bytes: Uint8Array): void {
    // the shell asks the terminal where the cursor is; the question may come in two pieces
    const all = this.held + this.decoder.decode(bytes, { stream: true });
    const cut = /\x1b(\[6?)?$/.exec(all)?.index ?? all.length;
    this.held = all.slice(cut);
    const text = all.slice(0, cut).replaceAll('\r', '').replaceAll('\x1b[6n', '');
    this.output += text;
    this.options.onOutput?.(text);
    this.wake();
  }
  private wake(): void {
    for (const waker of this.wakers) waker();
  }

  /** Types text. */
  write(text: string): void {
    this.console?.write(text);
  }

  /** Waits until `test` of the output from `from` on gives something. */
  async until<T>(test: (text: string) => T | undefined, from: number, timeout: number): Promise<T> {
    const end = performance.now() + timeout;
    for (;;) {
      const value = test(this.output.slice(from));
      if (value !== undefined) return value;
      const fail = (why: string): GuestError =>
        new GuestError(`${why}; the output ends:\n${this.output.slice(-1500)}`);
      if (this.ended !== undefined) throw fail(`the machine ended (${this.ended.reason})`);
      const left = end - performance.now();
      if (left <= 0) throw fail(`no answer within ${timeout} ms`);
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          this.wakers.delete(done);
          resolve();
        };
        const timer = setTimeout(done, left);
        this.wakers.add(done);
      });
    }
  }
  /** Waits for a prompt in the output from `from` on. */
  async prompt(from: number, timeout = 180_000): Promise<void> {
    await this.until((text) => (PROMPT.test(text) ? true : undefined), from, timeout);
  }

  /** Runs a shell command and gives its output. A status other than 0 is an error. */
  async run(command: string, timeout = 120_000): Promise<string> {
    const { output, status } = await this.tryRun(command, timeout);
    if (status !== 0) throw new GuestError(`${command}: status ${status}\n${output}`);
    return output;
  }
  /** Runs a shell command. */
  async tryRun(command: string, timeout = 120_000): Promise<{ output: string; status: number }> {
    const from = this.output.length;
    const mark = `${MARK}-${++commands}`;
    // the mark is typed in two parts, so that the echo of the command does not look like it
    this.write(`${command}\necho "${mark.slice(0, 5)}""${mark.slice(5)} $?"\n`);
    const end = new RegExp(`${mark} (\\d+)\\n`);
    const result = await this.until(
      (text) => {
        const match = end.exec(text);
        return match === null ? undefined : { text: text.slice(0, match.index), status: Number(match[1]) };
      },
      from,
      timeout,
    );
    const at = this.output.length;
    await this.prompt(Math.max(0, at - 40), timeout);
    const lines = result.text.split('\n');
    const output = lines
      .filter((line) => !line.includes(`"${mark.slice(0, 5)}""`))
      .slice(lines[0].startsWith(command.slice(0, 20)) || /^smp86:/.test(lines[0]) ? 1 : 0)
      .join('\n')
      .replace(/smp86:[^\n]*[#$] $/, '')
      .trim();
    return { output, status: result.status };
  }

  /** Waits for the end of the machine. */
  async exit(timeout = 60_000): Promise<GuestExit> {
    if (this.ended !== undefined) return this.ended;
    return await new Promise<GuestExit>((resolve, reject) => {
      const timer = setTimeout(
        () =>
          reject(
            new GuestError(`no end within ${timeout} ms; the output ends:\n${this.output.slice(-1500)}`),
          ),
        timeout,
      );
      void this.console?.exit.then((exit) => {
        clearTimeout(timer);
        resolve(exit);
      });
    });
  }

  /** Takes all CPU time from an emulator that is a process, until it is called with false. */
  freeze(frozen: boolean): void {
    this.console?.freeze?.(frozen);
  }

  /** Ends the machine, whatever it does. */
  async close(): Promise<void> {
    if (this.ended === undefined) await this.console?.kill();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function startSmp86(args: readonly string[], guest: LinuxGuest): Promise<GuestConsole> {
  const machine = await Machine.create(parseOptions(args));
  guest.machine = machine;
  const port = machine.serial[0];
  port?.on('data', (bytes: Uint8Array) => guest.received(bytes));
  return {
    write: (text) => port?.write(text),
    exit: machine.exit,
    kill: () => machine.quit(),
  };
}

/** An emulator that is a process, with the guest's serial port at its standard input and output. It ends with this one. */
export function startEmulator(
  command: string,
  args: readonly string[],
  received: (bytes: Uint8Array) => void,
): GuestConsole {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  // also when it is frozen, and would not see the end of its input
  const end = (): void => void child.kill('SIGKILL');
  process.once('exit', end);
  child.stdin.on('error', () => {});
  child.stdout.on('data', received);
  const { promise: exit, resolve } = Promise.withResolvers<GuestExit>();
  child.on('error', (error) => resolve({ reason: error.message, status: null }));
  child.on('close', (status) => {
    process.off('exit', end);
    resolve({ reason: 'exit', status });
  });
  return {
    write: (text) => child.stdin.write(text),
    exit,
    kill: async () => {
      end();
      await exit;
    },
    freeze: (frozen) => void child.kill(frozen ? 'SIGSTOP' : 'SIGCONT'),
  };
}

/** Lines of dmesg that tell of trouble. */
export function complaints(dmesg: string): string[] {
  const bad =
    /soft lockup|hard LOCKUP|\brcu\b.*(stall|starved)|unstable|' [cw][sd]_nsec|\bBUG\b|WARNING|Call Trace|Oops|blocked for more than/;
  return dmesg.split('\n').filter((line) => bad.test(line));
}

/** A line of /proc/interrupts: one count for each CPU. */
export function interruptCounts(table: string, name: string): number[] {
  const line = table.split('\n').find((l) => l.trim().startsWith(`${name}:`));
  if (line === undefined) return [];
  return line
    .slice(line.indexOf(':') + 1)
    .trim()
    .split(/\s+/)
    .filter((word) => /^\d+$/.test(word))
    .map(Number);
}

/** Keeps every vCPU busy for `seconds`: a loop of shell commands on each, with forks. */
export async function loadOnEveryCpu(guest: LinuxGuest, smp: number, seconds: number): Promise<void> {
  const loop = 'while :; do i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; /bin/true; done';
  const cpus = Array.from({ length: smp }, (_, i) => i).join(' ');
  const start = `for c in ${cpus}; do taskset -c $c sh -c '${loop}' & done`;
  await guest.run(`${start}; sleep ${seconds}; kill $(jobs -p); wait`, seconds * 5000 + 120_000);
}
