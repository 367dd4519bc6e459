/** The loaders' results run on native QEMU instead of our machine. Skipped where there is no QEMU. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { defaultCacheDirectory } from '../../src/cli/guest/cache.ts';
import { EMBEDDED_KERNEL, EMBEDDED_SUCCESS } from '../../src/cli/guest/embedded/index.ts';
import { buildInitramfs, runArgument } from '../../src/cli/guest/initramfs.ts';
import { readBootFiles } from '../../src/machine/boot/files.ts';
import { detectKernel, loadKernel } from '../../src/machine/boot/index.ts';
import { runStateInQemu } from '../tools/qemu-state.ts';
import { MIB, pcMap } from './images.ts';

const hasQemu = spawnSync('qemu-system-x86_64', ['-version']).status === 0;
const TIMEOUT_MS = 120_000;

/** Kernel and busybox of a guest that was prepared before; tests fetch nothing. */
function preparedGuest(name: string): { kernel: string; busybox: string } | undefined {
  const record = join(defaultCacheDirectory(), 'guests', `${name}.json`);
  if (!existsSync(record)) return undefined;
  const guest = JSON.parse(readFileSync(record, 'utf8')) as { kernel: string; busybox: string };
  return existsSync(guest.kernel) && existsSync(guest.busybox) ? guest : undefined;
}

test.runIf(hasQemu).each(['multiboot', 'pvh'] as const)(
  'the embedded guest runs when entered by %s',
  async (kind) => {
    const ram = new Uint8Array(16 * MIB);
    const kernel = new Uint8Array(readFileSync(EMBEDDED_KERNEL));
    // Without its multiboot magic the file is a PVH kernel.
    if (kind === 'pvh') kernel.fill(0, kernel.indexOf(0x02, 0x80), kernel.indexOf(0x02, 0x80) + 4);
    expect(detectKernel(kernel)).toBe(kind);
    const state = loadKernel({ ram, e820: pcMap(ram.length), kernel, append: 'limit=3000' });
    const output = await runStateInQemu({ state, ram, until: /correct|WRONG/, timeoutMs: TIMEOUT_MS });
    expect(output).toMatch(/total: 3000 numbers, 430 primes below 3000\r\n/);
    expect(output).toContain(EMBEDDED_SUCCESS);
  },
  TIMEOUT_MS + 5000,
);

const KERNELS = [
  ['debian', 'linux64', 'x86_64'],
  ['debian-i386', 'linux32', 'i686'],
] as const;
for (const [name, protocol, machine] of KERNELS) {
  const guest = preparedGuest(name);
  const missing =
    guest === undefined ? ' (skipped: not in the cache; npm start -- --prepare puts it there)' : '';
  test.skipIf(!hasQemu || guest === undefined)(
    `the kernel of guest ${name} boots from the state that the Linux loader makes${missing}`,
    { timeout: TIMEOUT_MS + 5000 },
    async () => {
      if (guest === undefined) throw new Error('not skipped');
      const ram = new Uint8Array(192 * MIB);
      const files = readBootFiles({ kernel: guest.kernel });
      const initrd = buildInitramfs({ busybox: readFileSync(guest.busybox) });
      // QEMU runs without a BIOS here: no ACPI, and PCI is probed directly.
      const append = `console=ttyS0 pci=conf1 quiet ${runArgument('cat /proc/cmdline; exit 5')} end-of-line`;
      const rngSeed = new Uint8Array(32).fill(7);
      const state = loadKernel({ ram, e820: pcMap(ram.length), ...files, initrd, append, rngSeed });
      expect(state.protocol).toBe(protocol);
      const output = await runStateInQemu({ state, ram, until: /smp86-exit: \d/, timeoutMs: TIMEOUT_MS });
      expect(output).toContain(` ${machine}, 1 CPUs`);
      expect(output).toContain('end-of-line');
      expect(output).toContain('smp86-exit: 5');
    },
  );
}
