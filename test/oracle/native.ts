/** Builds the native runner with the host's C compiler and runs batches of cases in it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Case, type Outcome, readResults, writeBatch } from './format.ts';

const SOURCE = fileURLToPath(new URL('./native.c', import.meta.url));
const FLAGS = ['-O2', '-fno-stack-protector', '-fcf-protection=none', '-mfsgsbase', '-fPIE', '-pie'];
const MAX_OUTPUT = 1 << 30;

/** Why the native runner cannot work here. */
export class NativeError extends Error {
  readonly code: 'NO_COMPILER' | 'NOT_X86' | 'RUN_FAILED';
  constructor(code: NativeError['code'], message: string) {
    super(message);
    this.name = 'NativeError';
    this.code = code;
  }
}

export class NativeRunner {
  private readonly directory: string;
  private readonly program: string;

  /** *Errors:* NativeError. */
  constructor() {
    if (process.arch !== 'x64' || process.platform !== 'linux') {
      throw new NativeError(
        'NOT_X86',
        `the host is ${process.platform} on ${process.arch}, not Linux on x86-64`,
      );
    }
    this.directory = mkdtempSync(join(tmpdir(), 'smp86-oracle-'));
    this.program = join(this.directory, 'native');
    try {
      execFileSync('gcc', [...FLAGS, '-o', this.program, SOURCE], { stdio: ['ignore', 'ignore', 'pipe'] });
    } catch (error) {
      this.close();
      throw new NativeError('NO_COMPILER', `gcc did not build ${SOURCE}: ${(error as Error).message}`);
    }
  }

  run(base: Uint8Array, cases: readonly Case[]): Outcome[] {
    const done = spawnSync(this.program, { input: writeBatch(base, cases), maxBuffer: MAX_OUTPUT });
    if (done.status !== 0) {
      throw new NativeError('RUN_FAILED', `the native runner ended with ${done.status ?? done.signal}`);
    }
    return readResults(done.stdout, cases.length);
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
