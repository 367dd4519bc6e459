/**
 * Campaign: boots a Debian kernel with each option that changes clocks or interrupt controllers, and tells what it
 * made of it. With --qemu the same under QEMU, so that an oddity can be compared.
 *
 *   node test/tools/kernel-options.ts [--guest NAME] [--smp N] [--qemu] [--only TEXT] [--timeout SECONDS]
 *
 * Ends with status 1 when one does not come to the shell, counts its CPUs wrong, or complains (under smp86).
 */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { DebianGuest } from '../../src/cli/guest/prepare.ts';
import { complaints, type Emulator, interruptCounts, LinuxGuest } from './linux-guest.ts';

export interface OptionCase {
  readonly append: string;
  readonly extra?: readonly string[];
  /** CPUs that Linux then uses; default: all. */
  readonly cpus?: number;
  readonly clocksource?: RegExp;
  /** What Linux itself says of the option. */
  readonly allowed?: RegExp;
}

/**
 * Early on, without an HPET, Linux compares the TSC with jiffies alone. A host so busy that it loses ticks makes the
 * TSC look too fast then; under QEMU too.
 */
const JIFFIES = /'?tsc-early'? as unstable|TSC unstable due to clocksource watchdog/;

export const OPTION_CASES: readonly OptionCase[] = [
  { append: '' },
  { append: 'clocksource=tsc', clocksource: /^tsc$/ },
  { append: 'clocksource=hpet', clocksource: /^hpet$/ },
  { append: 'clocksource=acpi_pm', clocksource: /^acpi_pm$/ },
  { append: 'nox2apic' },
  { append: 'noapic' },
  { append: 'nosmp', cpus: 1 },
  { append: 'nohpet', clocksource: /^(tsc|acpi_pm)$/, allowed: JIFFIES },
  { append: 'nolapic', cpus: 1 },
  { append: 'nolapic noapic', cpus: 1 },
  { append: 'notsc', clocksource: /^(hpet|acpi_pm)$/, allowed: /due to boot parameter notsc/ },
  { append: 'lpj=4000000' },
  { append: 'hpet=disable clocksource=acpi_pm', clocksource: /^acpi_pm$/, allowed: JIFFIES },
  // the cloud kernel reads no MP tables: without ACPI it has one CPU and no local APIC
  { append: 'acpi=off', cpus: 1, allowed: /could not calculate TSC/ },
  { append: 'acpi=off noapic', cpus: 1, allowed: /could not calculate TSC/ },
  { append: 'nohz=off highres=off' },
  { append: 'maxcpus=1', cpus: 1 },
  { append: '', extra: ['-cpu', 'max'] },
  { append: 'nox2apic', extra: ['-cpu', 'max'] },
  { append: 'lapic=notscdeadline', extra: ['-cpu', 'max'] },
  { append: '', extra: ['-machine', 'hpet=off'], allowed: JIFFIES },
];

export interface OptionOutcome {
  readonly bootMs: number;
  readonly problems: readonly string[];
  readonly facts: string;
}

/** Boots with the option and looks. Throws when it does not come to the shell. */
export async function tryOption(
  emulator: Emulator,
  name: DebianGuest,
  smp: number,
  { append, extra, cpus = smp, clocksource, allowed }: OptionCase,
  timeout: number,
): Promise<OptionOutcome> {
  const problems: string[] = [];
  await using guest = await LinuxGuest.boot({
    emulator,
    guest: name,
    smp,
    append,
    extra,
    bootTimeout: timeout,
  });
  const nproc = await guest.run('nproc');
  if (nproc !== String(cpus)) problems.push(`nproc is ${nproc}, not ${cpus}`);
  const source = await guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource');
  if (clocksource !== undefined && !clocksource.test(source)) problems.push(`clocksource is ${source}`);
  const event = await guest.run('cat /sys/devices/system/clockevents/clockevent0/current_device');
  const before = await guest.run('cat /proc/interrupts');
  // a second by the guest's clock against a second by ours
  const start = performance.now();
  await guest.run('sleep 3');
  const slept = performance.now() - start;
  if (slept < 2900 || slept > 8000) problems.push(`sleep 3 took ${slept.toFixed(0)} ms`);
  const after = await guest.run('cat /proc/interrupts');
  const ticks = (table: string): number =>
    ['LOC', '0'].flatMap((line) => interruptCounts(table, line)).reduce((a, b) => a + b, 0);
  if (ticks(after) <= ticks(before)) problems.push('no timer interrupts');
  const dmesg = await guest.run('dmesg');
  for (const line of complaints(dmesg)) if (allowed?.test(line) !== true) problems.push(line);
  guest.write('poweroff -f\n');
  // without ACPI there is nothing that could switch the power off
  if (!append.includes('acpi=off')) await guest.exit(30_000);
  const x2apic = /x2apic enabled|Switched APIC routing to.*x2apic/i.test(dmesg) ? ' x2apic' : '';
  return { bootMs: guest.bootMs, problems, facts: `${nproc} CPUs, ${source}, ${event}${x2apic}` };
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      guest: { type: 'string', default: 'debian' },
      smp: { type: 'string', default: '2' },
      qemu: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      timeout: { type: 'string', default: '180' },
    },
  });
  let failed = 0;
  for (const item of OPTION_CASES) {
    const title = [item.append || '(nothing)', ...(item.extra ?? [])].join(' ');
    if (!title.includes(values.only)) continue;
    const name = values.guest as DebianGuest;
    for (const emulator of values.qemu ? (['smp86', 'qemu'] as const) : (['smp86'] as const)) {
      try {
        const { bootMs, problems, facts } = await tryOption(
          emulator,
          name,
          Number(values.smp),
          item,
          Number(values.timeout) * 1000,
        );
        console.log(`${emulator}  ${title}: ${(bootMs / 1000).toFixed(1)} s, ${facts}`);
        for (const problem of problems) console.log(`    ${problem}`);
        if (emulator === 'smp86' && problems.length > 0) failed++;
      } catch (error) {
        console.log(`${emulator}  ${title}: ${(error as Error).message}`);
        if (emulator === 'smp86') failed++;
      }
    }
  }
  console.log(failed === 0 ? 'all as they should be' : `${failed} with problems`);
  return failed === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exit(await main());
