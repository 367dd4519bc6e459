/**
 * How much of a processor a throttled guest still uses: node test/tools/throttle.ts [SECONDS]
 * The guest is one vCPU in an endless loop; the figure is this process's CPU time by wall time.
 */
import { Machine } from '../../src/index.ts';
import { kernel, SPIN } from '../machine/guests.ts';

const seconds = Number(process.argv[2] ?? 2);
await using machine = await Machine.create({ kernel: kernel(SPIN), memory: '8M' });

async function share(): Promise<number> {
  const start = performance.now();
  const before = process.cpuUsage();
  await new Promise((done) => setTimeout(done, seconds * 1000));
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / (performance.now() - start);
}

await share(); // until code is compiled
const full = await share();
console.log('throttle    CPU    of unthrottled');
for (const percent of [0, 25, 50, 75, 90, 99]) {
  machine.setThrottle(percent);
  const used = percent === 0 ? full : await share();
  console.log(
    `${String(percent).padStart(6)} % ${(used * 100).toFixed(1).padStart(6)} % ${((used / full) * 100).toFixed(1).padStart(8)} %`,
  );
}
