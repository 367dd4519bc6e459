/**
 * Host CPU time of an idle Linux guest, in all and by thread, in per cent of a core.
 * `node bench/idle.ts [--smp N] [--seconds S] [--append TEXT] [--json FILE]`
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { interruptCounts, LinuxGuest } from '../test/tools/linux-guest.ts';

const SETTLE = 5000;
const TICKS_PER_SECOND = 100;

const { values } = parseArgs({
  options: {
    smp: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '20' },
    append: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});

/** User and system time of each thread, in s, with its name (proc(5)). */
function threadTimes(): Map<string, number> {
  const times = new Map<string, number>();
  for (const id of readdirSync('/proc/self/task')) {
    try {
      const stat = readFileSync(`/proc/self/task/${id}/stat`, 'latin1');
      const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      times.set(`${name} ${id}`, (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND);
    } catch {
      // the thread has ended
    }
  }
  return times;
}

const seconds = Number(values.seconds);
await using guest = await LinuxGuest.boot({ smp: Number(values.smp), append: values.append });
const ticks = async (): Promise<number> =>
  interruptCounts(await guest.run('cat /proc/interrupts'), 'LOC').reduce((a, b) => a + b, 0);
await sleep(SETTLE);
const ticksBefore = await ticks();
await sleep(1000);
const threads = process.platform === 'linux' ? threadTimes() : undefined;
const before = process.cpuUsage();
await sleep(seconds * 1000);
const { user, system } = process.cpuUsage(before);
const percent = ((user + system) / 1e6 / seconds) * 100;
const after = process.platform === 'linux' ? threadTimes() : undefined;
const interrupts = ((await ticks()) - ticksBefore) / seconds;
console.log(
  `idle Linux with ${values.smp} vCPUs: ${percent.toFixed(2)} % of a host core over ${seconds} s, ` +
    `${interrupts.toFixed(0)} timer interrupts a second`,
);
for (const [name, time] of after ?? []) {
  const share = ((time - (threads?.get(name) ?? 0)) / seconds) * 100;
  if (share >= 0.05) console.log(`  ${share.toFixed(2).padStart(6)} %  ${name}`);
}
if (values.json !== undefined)
  writeFileSync(values.json, JSON.stringify({ smp: Number(values.smp), percent, interrupts }, undefined, 2));
process.exit(0);
