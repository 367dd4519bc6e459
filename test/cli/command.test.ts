import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { EMBEDDED_KERNEL } from '../../src/cli/guest/embedded/index.ts';
import { EscapeParser } from '../../src/cli/terminal.ts';
import {
  ECHO,
  HLT_FOREVER,
  kernel,
  outb,
  POWER_OFF,
  print,
  RESET,
  SPIN,
  TRIPLE_FAULT,
} from '../machine/guests.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SMP86 = join(ROOT, 'src/cli/smp86.ts');
const directory = mkdtempSync(join(tmpdir(), 'smp86-command-'));
afterAll(() => rmSync(directory, { recursive: true }));

let kernels = 0;
/** A guest as a file. */
function guest(...code: readonly (readonly number[])[]): string {
  const path = join(directory, `guest-${kernels++}`);
  writeFileSync(path, kernel(...code));
  return path;
}

interface Result {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that runs, and what it prints. */
class Running {
  stdout = '';
  stderr = '';
  readonly child: ChildProcess;
  readonly ended: Promise<Result>;
  #changed = Promise.withResolvers<void>();

  constructor(command: string, args: readonly string[]) {
    this.child = spawn(command, args, { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] });
    const child = this.child;
    child.stdin!.on('error', () => {});
    const note = (): void => {
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    };
    child.stdout!.setEncoding('latin1').on('data', (text: string) => {
      this.stdout += text;
      note();
    });
    child.stderr!.setEncoding('latin1').on('data', (text: string) => {
      this.stderr += text;
      note();
    });
    this.ended = new Promise((resolve) =>
      child.on('close', (status, signal) => {
        resolve({ status, signal, stdout: this.stdout, stderr: this.stderr });
      }),
    );
  }
  async saw(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.stdout)) {
      const end = await Promise.race([this.#changed.promise, this.ended]);
      if (end !== undefined) throw new Error(`ended before ${pattern}: ${JSON.stringify(end)}`);
    }
  }
}

function smp86(...args: string[]): Running {
  return new Running(process.execPath, [SMP86, '-m', '8M', ...args]);
}

/** Runs to the end, with standard input at its end from the start. */
async function runToEnd(...args: string[]): Promise<Result> {
  const running = smp86(...args);
  running.child.stdin!.end();
  return await running.ended;
}

test.each([
  ['powers off', POWER_OFF, 0],
  ['reboots', RESET, 0],
  ['faults three times', TRIPLE_FAULT, 0],
  ['asks for status 33', outb(0xf4, 16), 33],
])('a guest that %s', async (_, code, status) => {
  const device = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=1'];
  const options = ['-kernel', guest(print('hi\n'), code, SPIN), '-no-reboot', '-nographic', ...device];
  expect(await runToEnd(...options)).toEqual({ status, signal: null, stdout: 'hi\n', stderr: '' });
});

test('standard input goes to the guest, its output to standard output, Ctrl-A x ends it', async () => {
  const running = smp86('-kernel', guest(ECHO), '-nographic');
  running.child.stdin!.write('typed \x01\x01 \x03');
  await running.saw(/typed \x01 \x03$/);
  running.child.stdin!.write('\x01h');
  await running.saw(/C-a x {4}exit emulator/);
  running.child.stdin!.write('\x01c');
  await running.saw(/no monitor yet/);
  running.child.stdin!.write('\x01x');
  expect(await running.ended).toMatchObject({ status: 0, signal: null, stderr: '' });
});

test('without the escape, Ctrl-A is a byte like others, and the end of input ends nothing', async () => {
  const running = smp86('-kernel', guest(ECHO), '-serial', 'stdio');
  running.child.stdin!.end('\x01x and on');
  await running.saw(/^\x01x and on$/);
  running.child.kill('SIGTERM');
  expect(await running.ended).toMatchObject({ status: 0, signal: null });
});

test.each([
  ['SIGINT', 1],
  ['SIGTERM', 2],
  ['SIGHUP', 3],
] as const)('%s, %i times, ends the command cleanly', async (signal, times) => {
  const running = smp86('-kernel', guest(print('up'), SPIN), '-nographic', '-smp', '2');
  await running.saw(/up/);
  for (let i = 0; i < times; i++) running.child.kill(signal);
  const number = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }[signal];
  const stderr = `smp86: terminating on signal ${number}\n`;
  expect(await running.ended).toEqual({ status: 0, signal: null, stdout: 'up', stderr });
});

test('a signal that comes before the guest has begun', async () => {
  const running = smp86('-kernel', guest(SPIN), '-nographic');
  setTimeout(() => running.child.kill('SIGTERM'), 350);
  const { status, signal } = await running.ended;
  // before the handlers are there, the signal ends the process as any other
  expect(signal ?? status).toSatisfy((end) => end === 'SIGTERM' || end === 0);
});

test('standard output that nobody reads ends nothing', async () => {
  const text = 'x'.repeat(200);
  const running = smp86('-kernel', guest(print(text), ECHO), '-nographic');
  await running.saw(/x/);
  running.child.stdout!.destroy();
  running.child.stdin!.write(`${'y'.repeat(2000)}\x01x`);
  expect(await running.ended).toMatchObject({ status: 0, signal: null, stderr: '' });
});

test('-no-shutdown keeps the machine after the guest has powered off', async () => {
  const running = smp86('-kernel', guest(print('off'), POWER_OFF), '-nographic', '-no-shutdown');
  await running.saw(/off/);
  const early = await Promise.race([
    running.ended,
    new Promise((resolve) => setTimeout(resolve, 400, 'there')),
  ]);
  expect(early).toBe('there');
  running.child.stdin!.write('\x01x');
  expect(await running.ended).toMatchObject({ status: 0 });
});

test('-serial file, -debugcon and -D write their files', async () => {
  const [serial, debug, log] = ['serial', 'debug', 'log'].map((name) => join(directory, name));
  const code = guest(print('to com1'), ...[...'debug'].map((c) => outb(0xe9, c.charCodeAt(0))), TRIPLE_FAULT);
  const files = ['-serial', `file:${serial}`, '-debugcon', `file:${debug}`, '-d', 'cpu_reset', '-D', log];
  const result = await runToEnd('-kernel', code, ...files, '-no-reboot', '-display', 'none');
  expect(result).toEqual({ status: 0, signal: null, stdout: '', stderr: '' });
  expect(readFileSync(serial, 'utf8')).toBe('to com1');
  expect(readFileSync(debug, 'utf8')).toBe('debug');
  expect(readFileSync(log, 'utf8')).toMatch(/^Triple fault\nEAX=/m);
});

test('-d without -D goes to standard error, and what the CPU lacks is told', async () => {
  const options = ['-d', 'cpu_reset', '-cpu', 'qemu64,+svm'];
  const { status, stderr } = await runToEnd('-kernel', guest(TRIPLE_FAULT), '-no-reboot', ...options);
  expect(status).toBe(0);
  expect(stderr).toMatch(/^smp86: warning: smp86 doesn't support requested feature: .*svm\n/);
  expect(stderr).toMatch(/^Triple fault$/m);
});

test.each([
  [['-kernel', '/nonexistent'], 'smp86: -kernel: /nonexistent: no such file\n'],
  [['-kernel', ROOT], /^smp86: -kernel: .*: not a regular file\n$/],
  [['-kernel', SMP86], /^smp86: -kernel: .*: not a kernel: [^\n]*\n$/],
  [
    ['-kernel', EMBEDDED_KERNEL, '-initrd', '/nonexistent'],
    /^smp86: -initrd: \/nonexistent: no such file\n$/,
  ],
  [['-kernel', EMBEDDED_KERNEL, '-cpu', 'max,+warp'], "smp86: -cpu max,+warp: Property '.warp' not found\n"],
  [
    ['-kernel', EMBEDDED_KERNEL, '-serial', 'file:/nonexistent/x'],
    /^smp86: -serial \/nonexistent\/x: no such/,
  ],
  [['-kernel', EMBEDDED_KERNEL, '-D', '/'], 'smp86: -D /: is a directory\n'],
  [['-kernel', EMBEDDED_KERNEL, '-m', '0'], 'smp86: -m 0: at least 2M\n'],
  [['-kernel', EMBEDDED_KERNEL, '-smp', '0'], 'smp86: -smp 0: cpus must be at least 1\n'],
  [
    ['-kernel', EMBEDDED_KERNEL, '-d', 'nothing'],
    "smp86: -d nothing: unknown log item 'nothing' (see -d help)\n",
  ],
  [
    ['-kernel', EMBEDDED_KERNEL, '-device', 'isa-debug-exit,iobase=0x60'],
    'smp86: -device: port 0x60 is taken\n',
  ],
])('%j is one line and status 1', async (args, stderr) => {
  const result = await runToEnd(...args, '-nographic');
  expect(result).toMatchObject({ status: 1, signal: null, stdout: '' });
  expect(result.stderr).toEqual(typeof stderr === 'string' ? stderr : expect.stringMatching(stderr));
  expect(result.stderr.match(/\n/g)).toHaveLength(1);
});

test('npm run passes options, standard streams, status and signals', async () => {
  const npm = (...args: string[]): Running =>
    new Running('npm', ['run', '-s', 'smp86', '--', '-m', '8M', ...args]);
  const options = ['-kernel', guest(ECHO), '-nographic'];
  const running = npm(...options);
  running.child.stdin!.write('through npm');
  await running.saw(/^through npm$/);
  running.child.kill('SIGTERM');
  expect(await running.ended).toMatchObject({ stdout: 'through npm' });
  const exit = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=1'];
  const { status } = await npm('-kernel', guest(outb(0xf4, 3), SPIN), ...exit).ended;
  expect(status).toBe(7);
});

// --- at a terminal: `script` makes one ---

const hasScript = spawnSync('script', ['-qec', 'true', '/dev/null']).status === 0;

/** Runs a shell command at a terminal of its own. */
function atTerminal(command: string): Running {
  return new Running('script', ['-qec', command, '/dev/null']);
}
const command = (...args: string[]): string => [process.execPath, SMP86, '-m', '8M', ...args].join(' ');

test.runIf(hasScript).each([
  ['Ctrl-A x', '-nographic', (r: Running) => r.child.stdin!.write('\x01x')],
  ['Ctrl-C with -serial stdio', '-serial stdio', (r: Running) => r.child.stdin!.write('\x03')],
  ['SIGTERM', '-nographic', (r: Running) => process.kill(Number(/pid (\d+)/.exec(r.stdout)![1]), 'SIGTERM')],
])('the terminal is raw, and is as before after %s', async (_, options, end) => {
  const echo = command('-kernel', guest(print('ready'), ECHO), options);
  // exec keeps the process id that the shell has printed
  const running = atTerminal(
    `sh -c 'echo before $(stty -g); sh -c "echo pid \\$\\$; exec ${echo}"; echo status $? after $(stty -g)'`,
  );
  await running.saw(/ready/);
  // in raw mode each key comes to the guest at once, and is echoed by nobody else
  running.child.stdin!.write('k');
  await running.saw(/readyk$/);
  end(running);
  const { stdout } = await running.ended;
  const before = /before (\S+)/.exec(stdout)![1];
  expect(/status (\d+) after (\S+)/.exec(stdout)!.slice(1)).toEqual(['0', before]);
});

test.runIf(hasScript)('with -nographic Ctrl-C goes to the guest', async () => {
  const running = atTerminal(command('-kernel', guest(print('ready'), ECHO), '-nographic'));
  await running.saw(/ready/);
  running.child.stdin!.write('a\x03b');
  await running.saw(/a\x03b/);
  running.child.stdin!.write('\x01x');
  await running.ended;
});

test.runIf(hasScript)(
  'the terminal is as before after a mistake and after an error of the program',
  async () => {
    const terminal = join(ROOT, 'src/cli/terminal.ts');
    const program = join(directory, 'fails.ts');
    writeFileSync(
      program,
      `import { Terminal } from ${JSON.stringify(terminal)};
     new Terminal({ mux: true, signal: false }, { quit() {}, interrupt() {} }).open();
     setTimeout(() => { throw new Error('on purpose'); }, 20);`,
    );
    for (const failing of [
      command('-kernel', EMBEDDED_KERNEL, '-cpu', 'max,+warp', '-nographic'),
      `${process.execPath} ${program}`,
    ]) {
      const running = atTerminal(
        `sh -c 'echo before $(stty -g); ${failing}; echo status $? after $(stty -g)'`,
      );
      const { stdout } = await running.ended;
      const before = /before (\S+)/.exec(stdout)![1];
      expect(/status (\d+) after (\S+)/.exec(stdout)!.slice(1)).toEqual(['1', before]);
    }
  },
);

// --- the escape, byte by byte ---

function escape(options: { mux: boolean; signal: boolean }, ...chunks: string[]): string[] {
  const seen: string[] = [];
  const parser = new EscapeParser(options, {
    input: (bytes) => seen.push(`input ${JSON.stringify(Buffer.from(bytes).toString('latin1'))}`),
    command: (letter) => seen.push(`command ${letter}`),
    signal: (byte) => seen.push(`signal ${byte}`),
  });
  for (const chunk of chunks) parser.feed(Buffer.from(chunk, 'latin1'));
  return seen;
}

test('the escape is found wherever the input is cut', () => {
  const mux = { mux: true, signal: false };
  expect(escape(mux, 'a\x01xb')).toEqual(['input "a"', 'command x', 'input "b"']);
  expect(escape(mux, 'a\x01', 'Hb')).toEqual(['input "a"', 'command h', 'input "b"']);
  expect(escape(mux, '\x01\x01')).toEqual(['input "\\u0001"']);
  expect(escape(mux, '\x01', '\x01x')).toEqual(['input "\\u0001x"']);
  expect(escape(mux, '\x01\x03')).toEqual(['command \x03']);
  expect(escape(mux, '\x03')).toEqual(['input "\\u0003"']);
  expect(escape({ mux: false, signal: true }, 'a\x01x\x03b')).toEqual([
    'input "a\\u0001x"',
    'signal 3',
    'input "b"',
  ]);
});

test('a guest that halts for good can be quit', async () => {
  const running = smp86('-kernel', guest(print('halted'), HLT_FOREVER), '-nographic', '-smp', '4');
  await running.saw(/halted/);
  running.child.stdin!.write('\x01x');
  expect(await running.ended).toMatchObject({ status: 0 });
});
