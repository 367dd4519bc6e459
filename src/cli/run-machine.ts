/** From the command line to a running machine, and from its end to an exit status. */
import { writeSync } from 'node:fs';
import type { Machine } from '../machine/machine.ts';
import type { MachineOptions } from '../machine/machine-options.ts';
import { OptionError } from './option-values.ts';
import { parseCommandLine } from './options.ts';
import { EndSignals, signalNumber, type EndSignal } from './signals.ts';
import { Terminal, type TerminalDevice } from './terminal.ts';

const STDERR = 2;

/** Runs the command with QEMU's options; returns its exit status. Mistakes are one line on standard error. */
export async function runCommand(args: readonly string[]): Promise<number> {
  return await reportingErrors(async () => {
    const command = parseCommandLine(args);
    if (command.action === 'print') {
      process.stdout.write(command.text);
      return 0;
    }
    const { options } = command;
    if (options.kernel === undefined) {
      throw new OptionError(
        'ERR_OPTION_VALUE',
        'kernel',
        undefined,
        'missing (nothing else boots yet; see -help)',
      );
    }
    return await runMachine(options);
  });
}

/** Runs a machine to its end, with standard input and output where the options want them. */
export async function runMachine(options: MachineOptions): Promise<number> {
  const controller = new AbortController();
  let said = false;
  const end = (signal: EndSignal): void => {
    if (!said) process.stderr.write(`smp86: terminating on signal ${signalNumber(signal)}\n`);
    said = true;
    controller.abort();
  };
  const signals = new EndSignals(end);
  const terminal = terminalFor(options, { quit: () => controller.abort(), interrupt: end });
  signals.install();
  terminal?.open();
  try {
    const machine = await createMachine(options, controller.signal);
    const device = deviceOf(machine, options);
    if (device !== undefined) terminal?.connect(device);
    return await machine.run();
  } catch (error) {
    // ended before it began
    if (controller.signal.aborted && error === controller.signal.reason) return 0;
    throw error;
  } finally {
    await terminal?.close();
    signals.remove();
  }
}

/** Loaded late, so that -help and mistakes are quick. */
async function createMachine(options: MachineOptions, signal: AbortSignal): Promise<Machine> {
  const { Machine } = await import('../machine/machine.ts');
  // before any thread exists: what a thread logs comes after
  const onWarning = (warning: string): void => void writeSync(STDERR, `smp86: ${warning}\n`);
  return await Machine.create({ ...options, signal, onWarning });
}

type Actions = ConstructorParameters<typeof Terminal>[1];

function terminalFor(options: MachineOptions, actions: Actions): Terminal | undefined {
  const backends = [...options.serial, ...debugConsoles(options)];
  const stdio = backends.find((backend) => backend?.type === 'stdio');
  return stdio?.type === 'stdio' ? new Terminal(stdio, actions) : undefined;
}

/** The device whose host side is standard input and output. */
function deviceOf(machine: Machine, options: MachineOptions): TerminalDevice | undefined {
  const port = options.serial.findIndex((backend) => backend?.type === 'stdio');
  if (port >= 0) return machine.serial[port];
  return machine.debugConsoles[debugConsoles(options).findIndex((backend) => backend.type === 'stdio')];
}

function debugConsoles(options: MachineOptions) {
  return options.devices.flatMap((device) => (device.driver === 'isa-debugcon' ? [device.backend] : []));
}

/** A typed error (one with a `code`) is the user's: one line, status 1. Any other is ours: it goes up. */
export async function reportingErrors(body: () => Promise<number>): Promise<number> {
  try {
    return await body();
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (!(error instanceof Error) || typeof code !== 'string' || !/^ERR_(OPTION|BOOT|GUEST)_/.test(code)) {
      throw error;
    }
    process.stderr.write(`smp86: ${error.message}\n`);
    return 1;
  }
}
