/**
 * Wall time from start to the shell prompt of Debian's cloud kernel: smp86 and native QEMU (TCG, thread=multi) with
 * the same files, in turn in one run. `node bench/boot.ts [--runs N] [--smp N] [--guest NAME] [--json FILE]`
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { DEBIAN_GUESTS, type DebianGuest, prepareDebian } from '../src/cli/guest/prepare.ts';
import { Machine } from '../src/machine/machine.ts';
import { median, qemuVersion, runQemu } from './qemu.ts';

const PROMPT = 'smp86:~# ';
const TIMEOUT = 300_000;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    smp: { type: 'string', default: '2' },
    guest: { type: 'string', default: 'debian' },
    json: { type: 'string' },
  },
});
if (!(values.guest in DEBIAN_GUESTS))
  throw new RangeError(`--guest is one of ${Object.keys(DEBIAN_GUESTS).join()}`);
const guest = await prepareDebian(values.guest as DebianGuest);

async function smp86(jit: boolean): Promise<number> {
  const started = performance.now();
  await using machine = await Machine.create({
    kernel: guest.kernel,
    initrd: guest.initrd,
    append: guest.append,
    smp: values.smp,
    memory: '512M',
    accel: { thread: 'multi', jit },
  });
  await machine.serial[0]?.waitFor(PROMPT, { timeout: TIMEOUT });
  return performance.now() - started;
}
async function qemu(): Promise<number> {
  const { kernel, initrd, append } = guest;
  const args = ['-smp', values.smp, '-m', '512M', '-kernel', kernel, '-initrd', initrd, '-append', append];
  return (await runQemu(args, /smp86:~# /)).ms;
}

const version = qemuVersion();
const columns: [string, () => Promise<number>][] = [
  ['tier 0', () => smp86(false)],
  ['tier 0+1', () => smp86(true)],
];
if (version === undefined) console.log('qemu-system-x86_64 is missing: no comparison');
else columns.push(['qemu tcg', qemu]);
const seconds = new Map<string, number[]>(columns.map(([name]) => [name, []]));
for (let run = 0; run < Number(values.runs); run++) {
  for (const [name, measure] of columns) seconds.get(name)?.push((await measure()) / 1000);
}
console.log(`${guest.package}, -smp ${values.smp}: seconds to the prompt, medians of ${values.runs}`);
if (version !== undefined) console.log(version);
const base = median(seconds.get('qemu tcg') ?? [NaN]);
for (const [name, list] of seconds) {
  const m = median(list);
  const ratio = version === undefined ? '' : `  ${(m / base).toFixed(2)} times QEMU`;
  console.log(`${name.padEnd(10)}${m.toFixed(2).padStart(8)} s${ratio}`);
}
if (values.json !== undefined) {
  writeFileSync(
    values.json,
    JSON.stringify({ qemu: version, seconds: Object.fromEntries(seconds) }, undefined, 2),
  );
}
process.exit(0);
