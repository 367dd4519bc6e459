/**
 * What `-d` asks for. Every thread writes whole records straight to the log's file descriptor, which all threads
 * of a process share: records keep their order in time, and are there even if the process dies right after.
 */
import { writeSync } from 'node:fs';

/** Items of `-d`. */
export const LOG_ITEMS = {
  in_asm: 'guest code where it is translated, disassembled',
  op: 'what the interpreter makes of it',
  exec: 'where the vCPU loop begins to run generated code (see nochain)',
  nochain: 'every jump comes back to the vCPU loop; turns tier 1 off',
  hotblocks: 'how often each block was jumped to, at the end; turns tier 1 off',
  mmu: 'changes of CR0, CR3 and CR4',
  int: 'interrupts and exceptions, with the state at each',
  cpu_reset: 'CPU state at reset and triple fault',
  guest_errors: 'accesses to memory addresses where nothing is',
  jit: 'statistics of tier 1, at the end (as the monitor command info jit of QEMU)',
} as const;
export type LogItem = keyof typeof LOG_ITEMS;

/** Addresses, both ends included. */
export interface LogRange {
  readonly first: bigint;
  readonly last: bigint;
}

export interface LogConfig {
  readonly items: readonly LogItem[];
  /** Where code must be that in_asm, op and exec show; none: anywhere. */
  readonly filter: readonly LogRange[];
  /** File descriptor, open for writing. */
  readonly fd: number;
}

/** A thread's end of the log. *Thread:* any. *May block:* for the write. */
export class Log {
  private readonly config: LogConfig;

  constructor(config: LogConfig) {
    this.config = config;
  }
  get filter(): readonly LogRange[] {
    return this.config.filter;
  }
  has(item: LogItem): boolean {
    return this.config.items.includes(item);
  }
  /** Writes text that ends with a newline. A log that cannot be written is no reason to stop a guest. */
  write(text: string): void {
    let rest: Uint8Array = new TextEncoder().encode(text);
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(this.config.fd, rest));
      } catch (error) {
        // a terminal or pipe in non-blocking mode that is full: its reader is slower than the guest
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
        Atomics.wait(NEVER, 0, 0, RETRY_MS);
      }
    }
  }
}

const NEVER = new Int32Array(new SharedArrayBuffer(4));
const RETRY_MS = 1;
