/** The host CPU as oracle: builds native.c with gcc, assembles instructions with as, runs batches of cases. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Layout of `struct state` in native.c. */
export const STATE = {
  XMM: 0,
  MM: 64,
  RAX: 96,
  RCX: 104,
  RDX: 112,
  R8: 120,
  R9: 128,
  FLAGS: 136,
  MXCSR: 144,
  SIGNAL: 148,
  MEMORY: 160,
  SIZE: 192,
} as const;
const SLOT = 16;
const HEADER = 16;

/** Why the oracle cannot run here; undefined when it can. */
export function missing(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the host is not x86-64 Linux';
  for (const tool of ['gcc', 'as', 'objcopy']) {
    if (spawnSync(tool, ['--version']).status !== 0) return `${tool} is not installed`;
  }
  return undefined;
}

export class Native {
  private readonly directory = mkdtempSync(join(tmpdir(), 'smp86-sse-'));
  private readonly program = join(this.directory, 'native');
  private readonly code: Buffer;

  /** `instructions`: Intel syntax, at most 15 bytes each; slot i is the i-th. */
  constructor(instructions: readonly string[]) {
    execFileSync('gcc', ['-O1', '-o', this.program, join(import.meta.dirname, 'native.c')]);
    const source = join(this.directory, 'code.s');
    const object = join(this.directory, 'code.o');
    const binary = join(this.directory, 'code.bin');
    const lines = instructions.map((text) => `${text}\nret\n.balign ${SLOT}, 0xcc`);
    writeFileSync(source, `.intel_syntax noprefix\n.text\n${lines.join('\n')}\n`);
    execFileSync('as', ['--64', '-o', object, source]);
    execFileSync('objcopy', ['-O', 'binary', '-j', '.text', object, binary]);
    this.code = readFileSync(binary);
    if (this.code.length !== instructions.length * SLOT) throw new Error('an instruction exceeds its slot');
  }

  /** Runs case i: instruction `slots[i]` on the state at `i * STATE.SIZE`. Gives the states afterwards. */
  run(slots: readonly number[], states: Buffer): Buffer {
    const input = Buffer.alloc(4 + this.code.length + slots.length * (HEADER + STATE.SIZE));
    input.writeUInt32LE(this.code.length, 0);
    this.code.copy(input, 4);
    let at = 4 + this.code.length;
    slots.forEach((slot, i) => {
      input.writeUInt32LE(slot, at);
      states.copy(input, at + HEADER, i * STATE.SIZE, (i + 1) * STATE.SIZE);
      at += HEADER + STATE.SIZE;
    });
    const result = spawnSync(this.program, { input, maxBuffer: states.length + 4096 });
    if (result.status !== 0 || result.stdout.length !== states.length) {
      throw new Error(`oracle failed: status ${result.status}, ${result.stdout.length} bytes`);
    }
    return result.stdout;
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
