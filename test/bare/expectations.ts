/**
 * What each bare-metal program must print, as the manual has it: `programs/NAME.txt`.
 *
 *   ; text                comment (the manual's section)
 *   @options -smp 2       command line beside the common one
 *   @qemu-options -smp 2  the same for QEMU, where it must differ
 *   @status 0             exit status; 33 (isa-debug-exit's for 10h) unless given
 *   @qemu-skip reason     QEMU cannot run this program
 *   line                  what is printed
 *     qemu line           what QEMU 7.2 prints instead; the comment before it says why
 *     qemu-any            the line before is not compared with QEMU's
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

export const PROGRAMS = fileURLToPath(new URL('programs', import.meta.url));

export interface Expectation {
  readonly name: string;
  readonly options: readonly string[];
  readonly qemuOptions: readonly string[];
  readonly status: number;
  readonly qemuSkip: string | undefined;
  readonly lines: readonly string[];
  /** By line; undefined: anything. */
  readonly qemuLines: readonly (string | undefined)[];
}

/** Names of the programs that have expectations. */
export function programNames(): string[] {
  return readdirSync(PROGRAMS)
    .filter((f) => f.endsWith('.txt'))
    .map((f) => f.slice(0, -4))
    .sort();
}

export function readExpectation(name: string): Expectation {
  let options: string[] = [];
  let qemuOptions: string[] | undefined;
  let qemuSkip: string | undefined;
  let status = 33;
  const lines: string[] = [];
  const qemuLines: (string | undefined)[] = [];
  for (const text of readFileSync(join(PROGRAMS, `${name}.txt`), 'utf8').split('\n')) {
    const directive = /^@([a-z-]+) ?(.*)$/.exec(text);
    if (directive !== null) {
      const [, key, value] = directive;
      if (key === 'options') options = value.split(' ');
      else if (key === 'qemu-options') qemuOptions = value.split(' ');
      else if (key === 'qemu-skip') qemuSkip = value;
      else if (key === 'status') status = Number(value);
      else throw new Error(`${name}.txt: unknown @${key}`);
    } else if (text === '  qemu-any') qemuLines[qemuLines.length - 1] = undefined;
    else if (text.startsWith('  qemu ')) qemuLines[qemuLines.length - 1] = text.slice(7);
    else if (text !== '' && !text.startsWith(';')) {
      lines.push(text);
      qemuLines.push(text);
    }
  }
  return { name, options, qemuOptions: qemuOptions ?? options, status, qemuSkip, lines, qemuLines };
}
