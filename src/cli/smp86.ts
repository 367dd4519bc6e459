/** The command `smp86`. */
import { runCommand } from './run-machine.ts';

process.exitCode = await runCommand(process.argv.slice(2));
