/** From the command line to a running machine, and from its end to an exit status. */
import type { MachineOptions } from '../machine/machine-options.ts';
import { OptionError } from './option-values.ts';
import { parseCommandLine } from './options.ts';

/** What the command needs of the machine. */
interface RunnableMachine {
  /** Runs until the guest powers off or the user ends it; the exit status. */
  run(): Promise<number>;
}

/** The only place where the command meets the machine; loaded late, so that -help and mistakes are quick. */
async function createMachine(options: MachineOptions): Promise<RunnableMachine> {
  const module: string = new URL('../machine/machine.ts', import.meta.url).href;
  const { Machine } = (await import(module)) as {
    Machine: { create(options: MachineOptions): Promise<RunnableMachine> };
  };
  return await Machine.create(options);
}

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
    const machine = await createMachine(options);
    return await machine.run();
  });
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
