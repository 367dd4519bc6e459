/** Where threads run: Node has no call for it, so `taskset` is asked, where the host has one. */
import { spawnSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';

/** `free`: the host decides; `spread`: each thread on a CPU of its own, in turn; `one`: all on one CPU. */
export const PLACEMENTS = ['free', 'spread', 'one'] as const;
export type Placement = (typeof PLACEMENTS)[number];

/** CPUs this process may use; empty when the host does not say. */
export function allowedCpus(): number[] {
  let status: string;
  try {
    status = readFileSync('/proc/self/status', 'utf8');
  } catch {
    return [];
  }
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '';
  return list.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-').map(Number);
    return Number.isInteger(first) ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : [];
  });
}

/** Whether `useCpus` can work here. */
export function canPlace(): boolean {
  return allowedCpus().length > 0 && spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0;
}

/** CPUs for thread `slot`, or undefined to leave it alone. */
export function cpusFor(placement: Placement, slot: number, cpus: readonly number[]): string | undefined {
  if (placement === 'free' || cpus.length === 0) return undefined;
  return String(placement === 'one' ? cpus[0] : cpus[slot % cpus.length]);
}

/** Ties the calling thread to `cpus`; without effect where that cannot be done. */
export function useCpus(cpus: string): void {
  let thread: string;
  try {
    thread = readlinkSync('/proc/thread-self').split('/').pop() ?? '';
  } catch {
    return;
  }
  spawnSync('taskset', ['-pc', cpus, thread], { stdio: 'ignore' });
}
