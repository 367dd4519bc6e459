/** Debian's 32-bit kernels come to the same shell. */
import { describe, expect, test } from 'vitest';
import type { DebianGuest } from '../../src/cli/guest/prepare.ts';
import { complaints, LinuxGuest, loadOnEveryCpu } from '../tools/linux-guest.ts';

const CASES: readonly { readonly guest: DebianGuest; readonly smp: number }[] = [
  { guest: 'debian-i386', smp: 2 },
  { guest: 'debian-i386-nopae', smp: 1 },
];

describe.each(CASES)('$guest -smp $smp', ({ guest: name, smp }) => {
  test('boots to a shell and works under load', async () => {
    await using guest = await LinuxGuest.boot({ guest: name, smp });
    expect(await guest.run('nproc')).toBe(String(smp));
    expect(await guest.run('uname -m')).toBe('i686');
    await loadOnEveryCpu(guest, smp, 5);
    expect(complaints(await guest.run('dmesg'))).toEqual([]);
    guest.write('poweroff -f\n');
    expect(await guest.exit()).toEqual({ reason: 'shutdown', status: 0 });
  });
});
