/**
 * Timer slack: Linux delays a sleeping thread's wake-up by up to 50 µs so as to merge wake-ups; a
 * thread that sleeps on deadlines asks for 1 ns instead (proc(5), timerslack_ns).
 */
import { readlinkSync, writeFileSync } from 'node:fs';

/**
 * Sets the calling thread's slack to 1 ns where the host has such a file.
 * *Thread:* the one that is going to sleep. *May block:* no. Returns whether it was set.
 */
export function reduceTimerSlack(): boolean {
  let tid: string;
  try {
    const link = readlinkSync('/proc/thread-self');
    tid = link.slice(link.lastIndexOf('/') + 1);
  } catch {
    return false;
  }
  // the kernel shows the file in the directory named by a thread id although /proc does not list that directory
  for (const file of [`/proc/${tid}/timerslack_ns`, `/proc/self/task/${tid}/timerslack_ns`]) {
    try {
      writeFileSync(file, '1');
      return true;
    } catch {
      // another path, or a host without the file: sleeping is merely less exact
    }
  }
  return false;
}
