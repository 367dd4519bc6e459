/**
 * Campaign: Debian's kernels on 1 to 8 vCPUs with minutes of load on every one of them. Do all work, do they interrupt
 * each other, and does Linux complain of anything?
 *
 *   node test/tools/campaign.ts [--guest NAME]… [--smp N]… [--seconds S] [--thread multi|single] [--jit] [--emulator E]
 *
 * By default cloud and generic kernel, `-smp` 1, 2, 4 and 8, 300 seconds each. Ends with status 1 on any problem.
 */
import { loadavg } from 'node:os';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { DebianGuest } from '../../src/cli/guest/prepare.ts';
import {
  complaints,
  type Emulator,
  type GuestOptions,
  interruptCounts,
  LinuxGuest,
  loadOnEveryCpu,
} from './linux-guest.ts';

export interface LoadOutcome {
  readonly problems: readonly string[];
  /** Interrupts during the load, one number for each CPU. */
  readonly timer: readonly number[];
  readonly ipis: readonly number[];
}

/** Keeps every vCPU busy for `seconds` and looks at what Linux counted and said. */
export async function checkUnderLoad(guest: LinuxGuest, smp: number, seconds: number): Promise<LoadOutcome> {
  const problems: string[] = [];
  const nproc = await guest.run('nproc');
  if (nproc !== String(smp)) problems.push(`nproc is ${nproc}, not ${smp}`);
  const before = await guest.run('cat /proc/interrupts');
  await loadOnEveryCpu(guest, smp, seconds);
  const after = await guest.run('cat /proc/interrupts');
  const rise = (line: string): number[] => {
    const old = interruptCounts(before, line);
    return interruptCounts(after, line).map((count, i) => count - (old[i] ?? 0));
  };
  const timer = rise('LOC');
  if (timer.length !== smp) problems.push(`timer interrupts of ${timer.length} CPUs, not ${smp}`);
  // a busy CPU ticks at least 100 times a second; one that is starved by the host much less
  timer.forEach((count, i) => {
    if (count <= seconds) problems.push(`CPU ${i} had ${count} timer interrupts in ${seconds} s`);
  });
  const ipis = ['RES', 'CAL', 'TLB'].map(rise).reduce((sum, line) => sum.map((n, i) => n + (line[i] ?? 0)));
  // RES: "run what is waiting"; CAL: "call this function"
  for (const line of smp > 1 ? ['RES', 'CAL'] : []) {
    if (!interruptCounts(after, line).some((count) => count > 0)) problems.push(`no IPIs of kind ${line}`);
  }
  problems.push(...complaints(await guest.run('dmesg')));
  return { problems, timer, ipis };
}

async function runOne(options: GuestOptions, smp: number, seconds: number): Promise<readonly string[]> {
  const title = `${options.emulator} ${options.guest} -smp ${smp}`;
  try {
    await using guest = await LinuxGuest.boot({ ...options, smp, bootTimeout: 300_000 });
    const start = performance.now();
    const { problems, timer, ipis } = await checkUnderLoad(guest, smp, seconds);
    const took = ((performance.now() - start) / 1000).toFixed(0);
    guest.write('poweroff -f\n');
    const { status } = await guest.exit();
    const all = status === 0 ? problems : [...problems, `ended with ${status}`];
    console.log(
      `${title}: up in ${(guest.bootMs / 1000).toFixed(1)} s, ${seconds} s of load in ${took} s, ` +
        `LOC ${timer.join(' ')}, IPIs ${ipis.join(' ')}: ${all.length === 0 ? 'well' : `${all.length} problems`}` +
        ` (host load ${loadavg()[0].toFixed(1)})`,
    );
    for (const problem of all) console.log(`    ${problem}`);
    return all;
  } catch (error) {
    const { message } = error as Error;
    console.log(`${title}: ${message}`);
    return [message];
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      guest: { type: 'string', multiple: true, default: ['debian', 'debian-generic'] },
      smp: { type: 'string', multiple: true, default: ['1', '2', '4', '8'] },
      seconds: { type: 'string', default: '300' },
      thread: { type: 'string', default: 'multi' },
      jit: { type: 'boolean' },
      emulator: { type: 'string', default: 'smp86' },
    },
  });
  let bad = 0;
  for (const name of values.guest) {
    for (const smp of values.smp) {
      const options: GuestOptions = {
        emulator: values.emulator as Emulator,
        guest: name as DebianGuest,
        thread: values.thread as 'multi' | 'single',
        jit: values.jit,
      };
      if ((await runOne(options, Number(smp), Number(values.seconds))).length > 0) bad++;
    }
  }
  console.log(bad === 0 ? 'all as they should be' : `${bad} with problems`);
  return bad === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exit(await main());
