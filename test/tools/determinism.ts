/**
 * Boots Linux twice with -icount and compares: all that it prints, kernel time stamps included, and the number of
 * instructions at power-off have to be the same. The second boot shares the host with busy processes.
 *
 *   node test/tools/determinism.ts [--smp N] [--shift N] [--runs N] [--load N] [--rc TEXT] [--seed N] [--show]
 *
 * Ends with status 1 at a difference, and prints where it begins.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { prepareDebian } from '../../src/cli/guest/prepare.ts';
import { Machine } from '../../src/index.ts';

export interface BootOptions {
  readonly smp: number;
  readonly shift: number;
  /** What the guest does before it powers off. */
  readonly rc: string;
  readonly seed: number;
  /** Processes that keep the host busy. */
  readonly load: number;
}
export interface BootResult {
  readonly output: string;
  readonly instructions: number | undefined;
  readonly seconds: number;
}

export const DEFAULTS: BootOptions = {
  smp: 4,
  shift: 0,
  rc: 'cat /proc/uptime /proc/sys/kernel/random/boot_id; cat /proc/interrupts; for i in 1 2 3 4; do (od -An -N8 -tx8 /dev/urandom; sleep 0.$i; date +%s.%N) & done; wait; dmesg | tail -3; poweroff -f',
  seed: 1,
  load: 0,
};
const LIMIT_MS = 600_000;

/** One boot to the guest's power-off. */
export async function boot(options: BootOptions): Promise<BootResult> {
  const busy = Array.from({ length: options.load }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  const begin = performance.now();
  try {
    const { kernel, initrd, append } = await prepareDebian('debian', { rc: options.rc, log: () => {} });
    await using machine = await Machine.create({
      kernel,
      initrd,
      append,
      smp: options.smp,
      memory: '512M',
      icount: { shift: options.shift, sleep: false },
      seed: options.seed,
      rtc: 'base=2026-01-01T00:00:00,clock=vm',
      cpu: 'max',
      paused: true,
    });
    const port = machine.serial[0]!;
    const chunks: Uint8Array[] = [];
    port.on('data', (bytes: Uint8Array) => chunks.push(bytes));
    const closed = once(port, 'close');
    const text = (): string => Buffer.concat(chunks).toString('latin1');
    const timer = setTimeout(() => {
      console.log(`no power-off in time:\n${text()}`);
      void machine.quit();
    }, LIMIT_MS);
    await machine.resume();
    await machine.exit;
    clearTimeout(timer);
    await closed;
    const seconds = (performance.now() - begin) / 1000;
    return { output: text(), instructions: machine.instructions, seconds };
  } finally {
    for (const child of busy) child.kill('SIGKILL');
  }
}

/** Where two outputs differ first: both sides' lines. */
export function difference(a: BootResult, b: BootResult): string | undefined {
  if (a.output !== b.output) {
    const [x, y] = [a.output.split('\n'), b.output.split('\n')];
    const line = x.findIndex((text, i) => text !== y[i]);
    const at = line < 0 ? x.length : line;
    return `line ${at + 1}:\n  ${x[at] ?? '(end)'}\n  ${y[at] ?? '(end)'}`;
  }
  if (a.instructions !== b.instructions) return `instructions: ${a.instructions} and ${b.instructions}`;
  return undefined;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      smp: { type: 'string', default: String(DEFAULTS.smp) },
      shift: { type: 'string', default: String(DEFAULTS.shift) },
      runs: { type: 'string', default: '2' },
      load: { type: 'string', default: '3' },
      seed: { type: 'string', default: String(DEFAULTS.seed) },
      rc: { type: 'string', default: DEFAULTS.rc },
      show: { type: 'boolean', default: false },
    },
  });
  const options = {
    smp: Number(values.smp),
    shift: Number(values.shift),
    seed: Number(values.seed),
    rc: values.rc,
  };
  let first: BootResult | undefined;
  for (let run = 0; run < Number(values.runs); run++) {
    const load = run === 0 ? 0 : Number(values.load);
    const result = await boot({ ...options, load });
    if (values.show && run === 0) console.log(result.output);
    console.log(
      `run ${run + 1}: ${result.instructions} instructions, ${result.output.length} bytes printed, ` +
        `${result.seconds.toFixed(1)} s, ${load} busy processes beside it`,
    );
    first ??= result;
    const found = difference(first, result);
    if (found === undefined) continue;
    console.log(`run 1 and run ${run + 1} differ in ${found}`);
    process.exitCode = 1;
  }
  if (process.exitCode !== 1) console.log('all the same');
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
