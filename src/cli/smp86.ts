#!/usr/bin/env node
/** The command `smp86`. */
import { enableCompileCache } from '../machine/compile-cache.ts';

enableCompileCache();
const { runCommand } = await import('./run-machine.ts');
process.exitCode = await runCommand(process.argv.slice(2));
