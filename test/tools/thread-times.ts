/** CPU time of this process's threads, as Linux shows it (proc(5)). */
import { readdirSync, readFileSync } from 'node:fs';

const TICKS_PER_SECOND = 100;

export interface ThreadTime {
  /** A worker's is that of its thread: `vcpu`, `main-loop`, `jit`. */
  readonly name: string;
  /** User and system time, s. */
  readonly seconds: number;
}

/** By thread id; nothing where there is no /proc. */
export function threadTimes(): Map<string, ThreadTime> {
  const times = new Map<string, ThreadTime>();
  if (process.platform !== 'linux') return times;
  for (const id of readdirSync('/proc/self/task')) {
    try {
      const stat = readFileSync(`/proc/self/task/${id}/stat`, 'latin1');
      const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      times.set(id, { name, seconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND });
    } catch {
      // the thread has ended
    }
  }
  return times;
}

/** CPU time of all threads of a name, s. */
export function secondsOf(name: string, times = threadTimes()): number {
  return [...times.values()].reduce((sum, time) => sum + (time.name === name ? time.seconds : 0), 0);
}
