/** The C program beside us: built with gcc where there is one, asked over a pipe. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';

const SOURCES = ['sync.c', 'loops.c'];

export class Native {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #lines: Interface;
  readonly #answers: ((line: string) => void)[] = [];

  /** Undefined where there is no gcc, or it does not compile. */
  static build(): Native | undefined {
    const folder = mkdtempSync(join(tmpdir(), 'smp86-bench-'));
    const program = join(folder, 'sync');
    const { status } = spawnSync(
      'gcc',
      ['-O2', '-pthread', '-o', program, ...SOURCES.map((name) => join(import.meta.dirname, name))],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    if (status === 0) return new Native(program, folder);
    rmSync(folder, { recursive: true });
    return undefined;
  }

  private constructor(program: string, folder: string) {
    this.#folder = folder;
    this.#child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! });
    this.#lines.on('line', (line) => this.#answers.shift()?.(line));
  }

  async #ask(name: string, n: number, count: number): Promise<string[]> {
    const answer = new Promise<string>((resolve) => this.#answers.push(resolve));
    this.#child.stdin!.write(`${name} ${n} ${count}\n`);
    return (await answer).split(' ');
  }

  /** Ns for each of `n` operations. */
  async ns(name: string, n: number, count = 0): Promise<number> {
    const [kind, value] = await this.#ask(name, n, count);
    if (kind !== 'ns' || !(Number(value) >= 0)) throw new Error(`${name}: ${kind} ${value}`);
    return Number(value);
  }

  async list(name: string, n: number): Promise<number[]> {
    const [kind, ...values] = await this.#ask(name, n, 0);
    if (kind !== 'list') throw new Error(`${name}: ${kind}`);
    return values.map(Number);
  }

  close(): void {
    this.#child.stdin!.end();
    this.#lines.close();
    rmSync(this.#folder, { recursive: true });
  }
}
