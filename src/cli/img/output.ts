/** Where a command of `smp86 img` prints, and how. */
import { writeSync } from 'node:fs';

/** Standard output and error. Text is whole: newlines included. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
}

export const PROGRAM = 'smp86 img';

/** Writes at once, in order: a command may end the process, and scripts read a pipe. */
export const PROCESS_OUTPUT: Output = {
  out: (text) => writeAll(1, text),
  err: (text) => writeAll(2, text),
};

function writeAll(fd: number, text: string): void {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined;
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1); // a full pipe that does not block
    }
  }
}

/** An error message: the program's name before the first line. */
export function reportError(output: Output, message: string): void {
  output.err(`${PROGRAM}: ${message}\n`);
}

/** Indented as qemu-img prints JSON: four spaces, a key a line. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, undefined, 4)}\n`;
}
