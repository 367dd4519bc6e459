/** The workloads of `bench/guest`, compiled for a guest by the host's gcc: one static program, kept in the cache. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultCacheDirectory, writeAtomic } from '../src/cli/guest/cache.ts';
import { lastErrorLine, run } from '../src/cli/guest/process.ts';

const SOURCES = fileURLToPath(new URL('guest/', import.meta.url));
const FLAGS = ['-O2', '-Wall', '-Wextra', '-std=gnu11'];
/** Flags of one source, and of a build's others. */
const ARCH: Record<Bits, { base: readonly string[]; simd: readonly string[] }> = {
  64: { base: ['-march=x86-64'], simd: ['-march=x86-64-v2'] },
  32: {
    base: ['-m32', '-march=i686'],
    simd: ['-m32', '-march=i686', '-msse4.2', '-mpopcnt', '-mfpmath=sse'],
  },
};

export type Bits = 32 | 64;

/** The sources that hold workloads, as `main.c` lists their tables. */
function tables(): string[] {
  const text = readFileSync(join(SOURCES, 'main.c'), 'utf8');
  return [...text.matchAll(/(\w+)_workloads\b/g)].map(([, table]) => table);
}

/** Names of a build's workloads, in the order in which the program runs them when it is given none. */
export function workloadNames(bits: Bits): string[] {
  return tables()
    .filter((table) => bits === 64 || table !== 'simd')
    .flatMap((table) =>
      [...readFileSync(join(SOURCES, `${table}.c`), 'utf8').matchAll(/\{"([\w.-]+)", \w+, \d+\}/g)].map(
        ([, name]) => name,
      ),
    );
}

/** The program's path in the host. *Errors:* gcc's, or that it is missing. */
export async function guestProgram(bits: Bits = 64): Promise<string> {
  const names = ['bench.h', 'main.c', ...tables().map((table) => `${table}.c`)];
  const version = await run('gcc', ['--version']);
  const hash = createHash('sha256').update(JSON.stringify([version.stdout, FLAGS, ARCH[bits]]));
  for (const name of names) hash.update(name).update(readFileSync(join(SOURCES, name)));
  const path = join(defaultCacheDirectory(), 'bench', `guest${bits}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(path)) return path;
  const directory = mkdtempSync(join(tmpdir(), 'smp86-bench-'));
  try {
    const gcc = async (args: readonly string[]): Promise<void> => {
      const result = await run('gcc', args);
      if (result.status !== 0) throw new Error(`gcc: ${lastErrorLine(result)}`);
    };
    const objects = [];
    for (const name of names.filter((n) => n.endsWith('.c'))) {
      const object = join(directory, `${basename(name, '.c')}.o`);
      const arch = ARCH[bits][name === 'simd.c' ? 'simd' : 'base'];
      await gcc([...FLAGS, ...arch, '-c', join(SOURCES, name), '-o', object]);
      objects.push(object);
    }
    const program = join(directory, 'bench');
    await gcc([...ARCH[bits].base, '-static', '-s', ...objects, '-o', program, '-lm', '-lpthread']);
    await writeAtomic(path, readFileSync(program));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return path;
}
