/**
 * Boots a guest under QEMU or smp86, waits for its shell, types commands, prints their output and the
 * wall times: the same run for both, so that results and speeds can be compared.
 *
 *   node test/tools/qemu-boot.ts [options] [-- more emulator options]
 *     --emulator qemu|smp86|PATH   default qemu (qemu-system-x86_64 -accel tcg)
 *     --guest NAME                 debian (default), debian-generic, debian-i386
 *     --kernel PATH --initrd PATH  instead of a guest
 *     --smp N  --memory SIZE  --append TEXT (added)  --command TEXT (repeatable)  --timeout SECONDS
 *     --module NAME (repeatable)   kernel modules to insert at boot
 *     --quiet                      no guest output, only the report
 */
import { spawn } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { type DebianGuest, prepareDebian } from '../../src/cli/guest/prepare.ts';

export const PROMPT = /smp86:[^\n]*# $/;

export interface BootRun {
  readonly emulator: string;
  readonly kernel: string;
  readonly initrd?: string;
  readonly append: string;
  readonly smp: number;
  readonly memory: string;
  /** Typed one after the other at the prompt; `poweroff` is typed at the end. */
  readonly commands: readonly string[];
  readonly timeoutMs: number;
  readonly extra?: readonly string[];
  readonly onOutput?: (text: string) => void;
}

export interface BootReport {
  /** Milliseconds from start to the first prompt. */
  readonly bootMs: number;
  readonly commands: readonly { command: string; output: string; ms: number }[];
  /** Milliseconds from the end of the last command until the emulator ended. */
  readonly poweroffMs: number;
  readonly exitStatus: number | null;
  /** All that the guest printed. */
  readonly output: string;
}

function emulatorCommand(emulator: string): string[] {
  if (emulator === 'qemu') return ['qemu-system-x86_64', '-accel', 'tcg,thread=multi'];
  if (emulator === 'smp86')
    return [process.execPath, new URL('../../src/cli/smp86.ts', import.meta.url).pathname];
  return [emulator];
}

/** Boots, types, powers off. Rejects when the guest does not answer in time or the emulator ends early. */
export async function bootAndType(run: BootRun): Promise<BootReport> {
  const [program, ...leading] = emulatorCommand(run.emulator);
  const args = [
    ...leading,
    ...['-smp', String(run.smp), '-m', run.memory, '-nographic', '-no-reboot', '-kernel', run.kernel],
    ...(run.initrd === undefined ? [] : ['-initrd', run.initrd]),
    ...['-append', run.append],
    ...(run.extra ?? []),
  ];
  const begin = performance.now();
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  let ended = false;
  let wake = (): void => {};
  const onData = (text: string): void => {
    output += text.replaceAll('\r', '').replaceAll('\x1b[6n', '');
    run.onOutput?.(text);
    wake();
  };
  child.stdout.setEncoding('utf8').on('data', onData);
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  // The emulator may end before it has read all.
  child.stdin.on('error', () => {});
  const exit = Promise.withResolvers<number | null>();
  child.on('error', (error) => {
    errors += error.message;
    ended = true;
    exit.resolve(null);
    wake();
  });
  child.on('close', (status) => {
    ended = true;
    exit.resolve(status);
    wake();
  });
  const timer = setTimeout(() => {
    errors += `no answer within ${run.timeoutMs / 1000} s`;
    ended = true;
    child.kill('SIGKILL');
    wake();
  }, run.timeoutMs);
  const promptAfter = async (from: number): Promise<void> => {
    while (!PROMPT.test(output.slice(from))) {
      if (ended) throw new Error(`${program}: ${errors.trim() || 'ended early'}\n${output.slice(-2000)}`);
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  try {
    await promptAfter(0);
    const bootMs = performance.now() - begin;
    const commands: { command: string; output: string; ms: number }[] = [];
    for (const command of run.commands) {
      const from = output.length;
      const start = performance.now();
      child.stdin.write(`${command}\n`);
      await promptAfter(from);
      const ms = performance.now() - start;
      const text = output.slice(from).replace(PROMPT, '');
      commands.push({ command, output: text.slice(text.indexOf('\n') + 1).trimEnd(), ms });
    }
    const stop = performance.now();
    child.stdin.write('poweroff\n');
    const exitStatus = await exit.promise;
    return { bootMs, commands, poweroffMs: performance.now() - stop, exitStatus, output };
  } finally {
    clearTimeout(timer);
    if (!ended) child.kill('SIGKILL');
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      emulator: { type: 'string', default: 'qemu' },
      guest: { type: 'string', default: 'debian' },
      kernel: { type: 'string' },
      initrd: { type: 'string' },
      smp: { type: 'string', default: '2' },
      memory: { type: 'string', default: '512M' },
      append: { type: 'string', default: '' },
      command: { type: 'string', multiple: true, default: ['nproc', 'uname -a'] },
      module: { type: 'string', multiple: true, default: [] },
      timeout: { type: 'string', default: '120' },
      quiet: { type: 'boolean', default: false },
    },
  });
  const guest =
    values.kernel === undefined
      ? await prepareDebian(values.guest as DebianGuest, { modules: values.module })
      : { kernel: values.kernel, initrd: values.initrd, append: 'console=ttyS0' };
  const report = await bootAndType({
    emulator: values.emulator,
    kernel: guest.kernel,
    initrd: values.initrd ?? guest.initrd,
    append: `${guest.append} ${values.append}`.trim(),
    smp: Number(values.smp),
    memory: values.memory,
    commands: values.command,
    timeoutMs: Number(values.timeout) * 1000,
    extra: positionals,
    onOutput: values.quiet ? undefined : (text) => process.stderr.write(text),
  });
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
  console.log(`\n${values.emulator}: boot to shell ${seconds(report.bootMs)}`);
  for (const { command, output, ms } of report.commands) {
    console.log(`${seconds(ms)}  ${command}${output === '' ? '' : `\n${output}`}`);
  }
  console.log(`poweroff ${seconds(report.poweroffMs)}, exit status ${report.exitStatus}`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
