/**
 * Assembles the bare-metal programs: `programs/NAME.asm` to `programs/NAME.bin`.
 *
 *   node test/bare/build.ts [--check] [NAME ...]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { PROGRAMS } from './expectations.ts';

export const hasNasm = spawnSync('nasm', ['-v']).status === 0;

export function binaryPath(name: string): string {
  return join(PROGRAMS, `${name}.bin`);
}

/** Assembles one program. Throws with nasm's messages. */
export function assemble(name: string): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-bare-'));
  try {
    const output = join(directory, 'out.bin');
    // some cases are prefixes that do not fit their instruction
    const args = ['-w-prefix-lock', '-f', 'bin', '-o', output, `${name}.asm`];
    const run = spawnSync('nasm', args, { cwd: PROGRAMS, encoding: 'utf8' });
    if (run.status !== 0 || run.stderr !== '') throw new Error(`${name}.asm: ${run.stderr}`);
    return readFileSync(output);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function sourceNames(): string[] {
  return readdirSync(PROGRAMS)
    .filter((f) => f.endsWith('.asm'))
    .map((f) => f.slice(0, -4))
    .sort();
}

function main(): void {
  const args = process.argv.slice(2);
  const check = args.includes('--check');
  const chosen = args.filter((a) => !a.startsWith('--'));
  for (const name of chosen.length > 0 ? chosen : sourceNames()) {
    const bytes = assemble(name);
    if (!check) writeFileSync(binaryPath(name), bytes);
    else if (!bytes.equals(readFileSync(binaryPath(name)))) {
      console.error(`${name}.bin does not belong to ${name}.asm`);
      process.exitCode = 1;
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
