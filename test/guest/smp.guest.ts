/** Debian's 64-bit kernels on 1 to 8 vCPUs: all of them work, interrupt each other, and nothing complains. */
import { describe, expect, test } from 'vitest';
import type { DebianGuest } from '../../src/cli/guest/prepare.ts';
import { checkUnderLoad } from '../tools/campaign.ts';
import { LinuxGuest } from '../tools/linux-guest.ts';

const LOAD_SECONDS = 10;

interface Case {
  readonly guest: DebianGuest;
  readonly smp: number;
  readonly thread?: 'multi' | 'single';
  readonly jit?: boolean;
}
const CASES: readonly Case[] = [
  { guest: 'debian', smp: 1 },
  { guest: 'debian', smp: 2 },
  { guest: 'debian', smp: 2, jit: true },
  { guest: 'debian', smp: 4 },
  { guest: 'debian', smp: 8 },
  { guest: 'debian', smp: 4, thread: 'single' },
  { guest: 'debian-generic', smp: 1 },
  { guest: 'debian-generic', smp: 4 },
];

describe.each(CASES)('$guest -smp $smp thread=$thread jit=$jit', ({ guest: name, smp, thread, jit }) => {
  test(`${smp} vCPUs work under load`, async () => {
    await using guest = await LinuxGuest.boot({ guest: name, smp, thread, jit });
    const { problems } = await checkUnderLoad(guest, smp, LOAD_SECONDS);
    expect(problems).toEqual([]);
    if (jit === true) expect((await guest.machine?.regions())?.length).toBeGreaterThan(0);
    guest.write('poweroff -f\n');
    expect(await guest.exit()).toEqual({ reason: 'shutdown', status: 0 });
  });
});

describe.each(['multi', 'single'] as const)('thread=%s', (thread) => {
  test('a reboot brings the guest up again', async () => {
    await using guest = await LinuxGuest.boot({ thread });
    const from = guest.output.length;
    guest.write('reboot -f\n');
    // the harness has silenced what the kernel says of its end
    await guest.until((text) => (/Linux version/.test(text) ? true : undefined), from, 60_000);
    await guest.prompt(from + 'smp86:~# reboot -f'.length);
    expect(await guest.run('nproc')).toBe('2');
    expect(guest.ended).toBeUndefined();
  });

  test('a reboot ends the machine with -no-reboot', async () => {
    await using guest = await LinuxGuest.boot({ thread, extra: ['-no-reboot'] });
    guest.write('reboot -f\n');
    expect(await guest.exit()).toEqual({ reason: 'reset', status: 0 });
  });
});
