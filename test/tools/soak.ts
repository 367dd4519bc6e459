/**
 * Mixed load in a Linux guest for a long time: text tools and compression as a compiler's build has them, forks and
 * programs started, a kernel module loaded and removed. Samples the process's memory and the guest's speed: rounds of
 * load in a second, and in a second of the vCPUs' CPU time, which says something on a busy host too.
 *
 *   node test/tools/soak.ts [--minutes 60] [--settle 10] [--smp 2] [--jit on|off] [--every SECONDS] [--json FILE] [--log FILE]
 *
 * `log` gets all that the guest prints. Fails when after `settle` minutes, from the first third to the last, memory has
 * grown by more than a tenth, or the rounds done in a CPU time have fallen by more than a fifth.
 */
import { appendFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { complaints, LinuxGuest } from './linux-guest.ts';
import { secondsOf } from './thread-times.ts';

/** One round of a worker; `$1`: its number. Counts rounds in /tmp/rounds.N. */
const WORKER = `#!/bin/sh
cd /tmp; mkdir -p work.$1; cd work.$1
n=0
while :; do
  # text through many programs
  seq 1 400 | awk '{ printf "int f%d(int x) { return x * %d + 1; }\\n", $1, $1 % 97 }' > a.c
  sed -e 's/int/long/g' a.c | grep -v 'f13' | sort -r | uniq | tr a-z A-Z > b.c
  gzip -c b.c > b.gz; gunzip -c b.gz | sha256sum > sum
  # forks and programs
  i=0; while [ $i -lt 15 ]; do ( : ); /bin/true; i=$((i+1)); done
  if [ $1 = 0 ]; then insmod /lib/modules/dummy.ko && rmmod dummy; fi
  n=$((n+1)); echo $n > /tmp/rounds.$1
done
`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    settle: { type: 'string', default: '10' },
    smp: { type: 'string', default: '2' },
    jit: { type: 'string', default: 'on' },
    every: { type: 'string', default: '30' },
    json: { type: 'string' },
    log: { type: 'string' },
  },
});

interface Sample {
  /** Since the start of the load. */
  readonly minutes: number;
  readonly megabytes: number;
  /** Since the sample before: s, of the vCPUs' CPU time, and rounds of load. */
  readonly seconds: number;
  readonly cpu: number;
  readonly rounds: number;
}

const smp = Number(values.smp);
await using guest = await LinuxGuest.boot({
  smp,
  jit: values.jit === 'on',
  modules: ['dummy'],
  onOutput: (text) => {
    if (values.log !== undefined) appendFileSync(values.log, text);
  },
  files: [{ path: 'bin/worker', data: WORKER, mode: 0o755 }],
});
await guest.run('rmmod dummy');
// the guest's memory counts where it was touched: all of it, so that what grows later is the emulator's
const filled = await guest.run(
  'mkdir /tmp/all; mount -t tmpfs -o size=95% none /tmp/all; dd if=/dev/zero of=/tmp/all/fill bs=1M count=380; umount /tmp/all',
  300_000,
);
if (!filled.includes('380+0 records out')) throw new Error(`the guest's memory cannot be filled: ${filled}`);
await guest.run(`for n in $(seq 0 ${smp - 1}); do taskset -c $n worker $n >/dev/null 2>&1 & done`);
const rounds = async (): Promise<number> => {
  const text = await guest.run('cat /tmp/rounds.* 2>/dev/null || true', 300_000);
  return text.split('\n').reduce((sum, line) => sum + (Number(line) || 0), 0);
};
const begin = performance.now();
const samples: Sample[] = [];
let before = { at: begin, count: 0, cpu: secondsOf('vcpu') };
while (performance.now() - begin < Number(values.minutes) * 60_000) {
  await new Promise((resolve) => setTimeout(resolve, Number(values.every) * 1000));
  const count = await rounds();
  const at = performance.now();
  const cpu = secondsOf('vcpu');
  const sample = {
    minutes: (at - begin) / 60_000,
    megabytes: process.memoryUsage.rss() / 1e6,
    seconds: (at - before.at) / 1000,
    cpu: cpu - before.cpu,
    rounds: count - before.count,
  };
  samples.push(sample);
  before = { at, count, cpu };
  console.log(
    `${sample.minutes.toFixed(1).padStart(6)} min ${sample.megabytes.toFixed(0).padStart(6)} MB ` +
      `${(sample.rounds / sample.seconds).toFixed(2).padStart(8)} rounds/s ` +
      `${(sample.rounds / sample.cpu).toFixed(2).padStart(8)} rounds in a CPU second`,
  );
}
const regions = (await guest.machine?.regions()) ?? [];
console.log(`regions ${regions.length}, valid ${regions.filter((r) => r.valid).length}`);
const troubles = complaints(await guest.run('dmesg', 300_000));
if (values.json !== undefined)
  writeFileSync(values.json, JSON.stringify({ samples, troubles }, undefined, 2));

const settled = samples.filter((s) => s.minutes >= Number(values.settle));
const third = Math.ceil(settled.length / 3);
const sum = (list: readonly Sample[], of: keyof Sample): number => list.reduce((all, s) => all + s[of], 0);
if (settled.length < 3) console.log('too short to judge');
else {
  const [first, last] = [settled.slice(0, third), settled.slice(-third)];
  const ratio = (of: keyof Sample, by: keyof Sample): number =>
    sum(last, of) / sum(last, by) / (sum(first, of) / sum(first, by));
  const growth = sum(last, 'megabytes') / last.length / (sum(first, 'megabytes') / first.length);
  const speed = ratio('rounds', 'seconds');
  const work = ratio('rounds', 'cpu');
  console.log(
    `last third by first third: memory ${growth.toFixed(3)}, rounds in a CPU second ${work.toFixed(3)}, ` +
      `rounds in a second ${speed.toFixed(3)}`,
  );
  if (growth > 1.1 || work < 0.8) process.exitCode = 1;
}
for (const line of troubles) console.log(line);
if (troubles.length > 0) process.exitCode = 1;
await guest.close();
process.exit();
