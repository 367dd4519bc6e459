/** Time in the guest keeps pace with the host's and never goes backwards, on whichever vCPU it is read. */
import { describe, expect, test } from 'vitest';
import { checkOrder, hasCompiler, MAX_DRIFT, measureDrift, timeCheckProgram } from '../tools/guest-time.ts';
import { LinuxGuest } from '../tools/linux-guest.ts';

const SECONDS = 20;

// the program that looks at the clocks is compiled here
describe.skipIf(!hasCompiler())('time in the guest', () => {
  test.each([
    ['tsc', ''],
    ['hpet', 'clocksource=hpet'],
  ])('clocksource %s', async (source, append) => {
    await using guest = await LinuxGuest.boot({ smp: 4, append, files: [timeCheckProgram()] });
    expect(await guest.run('cat /sys/devices/system/clocksource/clocksource0/current_clocksource')).toBe(
      source,
    );
    const drift = await measureDrift(guest, SECONDS, async () => {
      const orders = await checkOrder(guest, SECONDS / 2);
      expect(orders.map(({ clock, backwards }) => ({ clock, backwards }))).toEqual([
        { clock: 'monotonic', backwards: 0 },
        { clock: 'tsc', backwards: 0 },
      ]);
    });
    console.log(
      `clocksource ${source}: ${drift.ppm.toFixed(1)} ppm (± ${drift.error.toFixed(1)}) over ${SECONDS} s`,
    );
    expect(Math.abs(drift.ppm)).toBeLessThan(MAX_DRIFT + drift.error);
    expect(drift.tscHz).toBeGreaterThan(0.9999e9);
    expect(drift.tscHz).toBeLessThan(1.0001e9);
  });
});
