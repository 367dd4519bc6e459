/**
 * Host CPU time of an idle Linux guest, in all and by thread, in per cent of a core.
 * `node bench/idle.ts [--smp N] [--seconds S] [--append TEXT] [--json FILE]`
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { interruptCounts, LinuxGuest } from '../test/tools/linux-guest.ts';
import { threadTimes } from '../test/tools/thread-times.ts';

const SETTLE = 5000;

const { values } = parseArgs({
  options: {
    smp: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '20' },
    append: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});

const seconds = Number(values.seconds);
await using guest = await LinuxGuest.boot({ smp: Number(values.smp), append: values.append });
const ticks = async (): Promise<number> =>
  interruptCounts(await guest.run('cat /proc/interrupts'), 'LOC').reduce((a, b) => a + b, 0);
await sleep(SETTLE);
const ticksBefore = await ticks();
await sleep(1000);
const threads = threadTimes();
const before = process.cpuUsage();
await sleep(seconds * 1000);
const { user, system } = process.cpuUsage(before);
const percent = ((user + system) / 1e6 / seconds) * 100;
const after = threadTimes();
const interrupts = ((await ticks()) - ticksBefore) / seconds;
console.log(
  `idle Linux with ${values.smp} vCPUs: ${percent.toFixed(2)} % of a host core over ${seconds} s, ` +
    `${interrupts.toFixed(0)} timer interrupts a second`,
);
for (const [id, { name, seconds: time }] of after) {
  const share = ((time - (threads.get(id)?.seconds ?? 0)) / seconds) * 100;
  if (share >= 0.05) console.log(`  ${share.toFixed(2).padStart(6)} %  ${name} ${id}`);
}
if (values.json !== undefined)
  writeFileSync(values.json, JSON.stringify({ smp: Number(values.smp), percent, interrupts }, undefined, 2));
process.exit(0);
