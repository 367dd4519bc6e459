/** CPU throttling: rules of QEMU's (CLOCKS.md 6) on a clock that is set by hand, and a machine that is throttled. */
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { Machine } from '../../src/index.ts';
import { Bql } from '../../src/machine/bql.ts';
import { CPU_WORK, type CpuWork } from '../../src/machine/cpu-work.ts';
import { VcpuSignals } from '../../src/machine/signals.ts';
import { Throttle, ThrottleState } from '../../src/machine/throttle.ts';
import { CLOCK } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import { CHATTER, kernel } from './guests.ts';

const KICK_SEQ_ROOM = 8192;

function setup(cpus = 2) {
  const clockBytes = ClockSystem.layout().size;
  const buffer = new SharedArrayBuffer(clockBytes + ThrottleState.size + KICK_SEQ_ROOM);
  const source = new ManualTime();
  const clocks = ClockSystem.init(buffer, 0, { source });
  clocks.enableTicks();
  const words = new Int32Array(buffer);
  const signals = Array.from({ length: cpus }, () => new VcpuSignals(words, clockBytes + ThrottleState.size));
  const queued: number[] = [];
  const cpuWork = {
    asyncRunOnCpu: (cpu: number, work: number) => {
      expect(work).toBe(CPU_WORK.THROTTLE);
      queued.push(cpu);
    },
  } as unknown as CpuWork;
  const timer = clocks.createTimer({ clock: CLOCK.VIRTUAL_RT, callback: () => throttle.onTimer() });
  const bql = new Bql(buffer, clockBytes + ThrottleState.size + 4096);
  const throttle = new Throttle(ThrottleState.at(buffer, clockBytes), {
    timer,
    virtualRt: clocks.clock(CLOCK.VIRTUAL_RT),
    realtime: clocks.clock(CLOCK.REALTIME),
    cpuWork,
    bql,
    signals,
  });
  const list = clocks.mainGroup.lists[CLOCK.VIRTUAL_RT];
  const at = (ns: number): void => {
    source.ns = ns;
    list.run();
  };
  bql.lock();
  return { throttle, timer, queued, at, source, bql, clocks };
}

describe('the throttle', () => {
  test.each([
    [-5, 1],
    [0.5, 0],
    [1, 1],
    [50.9, 50],
    [99, 99],
    [1000, 99],
  ])('of %d percent is one of %d', (asked, is) => {
    const { throttle } = setup();
    throttle.set(asked);
    expect(throttle.percent).toBe(is);
  });

  test('has a timer on VIRTUAL_RT with a period of 10 ms / (1 - percent)', () => {
    const { throttle, timer, at } = setup();
    throttle.set(50);
    throttle.start();
    expect(timer.expireTime).toBe(20e6);
    at(20e6);
    expect(timer.expireTime).toBe(40e6);
    throttle.set(99);
    // setting it while it is active changes the number alone
    throttle.start();
    expect(timer.expireTime).toBe(40e6);
    at(40e6);
    expect(timer.expireTime).toBeCloseTo(40e6 + 1e9, -1);
  });

  test('stands still while the machine does', () => {
    const { throttle, at, queued, clocks } = setup();
    throttle.set(50);
    throttle.start();
    queued.length = 0;
    clocks.disableTicks();
    at(1e9);
    expect(queued).toEqual([]);
  });

  test('gives each vCPU one piece of work, and none while it has not done the last', () => {
    const { throttle, at, queued, source } = setup();
    throttle.set(50);
    throttle.start();
    expect(queued).toEqual([0, 1]);
    at(20e6);
    expect(queued).toEqual([0, 1]);
    source.ns = 1e9;
    let looks = 0;
    throttle.sleep(1, () => {
      looks++;
      source.ns += 10e6;
      return looks > 1;
    });
    at(2e9);
    expect(queued).toEqual([0, 1, 1]);
  });

  test('sleeps percent / (1 - percent) * 10 ms and 1 ns of REALTIME, without the BQL', () => {
    const { throttle, source, bql } = setup();
    throttle.set(75);
    const asked: number[] = [];
    source.ns = 5;
    throttle.sleep(0, () => {
      expect(bql.held).toBe(false);
      asked.push(source.ns - 5);
      source.ns += 1e6;
      return false;
    });
    expect(bql.held).toBe(true);
    expect(asked).toHaveLength(31);
    expect(asked.at(-1)).toBe(30e6);
  });

  test('sleep ends at once when the vCPU is to stop', () => {
    const { throttle, source } = setup();
    throttle.set(99);
    throttle.sleep(0, () => true);
    expect(source.ns).toBe(0);
  });

  test('ends at its next tick when it is turned off', () => {
    const { throttle, timer, at, queued } = setup();
    throttle.set(20);
    throttle.start();
    throttle.set(0);
    expect(timer.pending).toBe(true);
    at(12.5e6);
    expect(timer.pending).toBe(false);
    expect(queued).toEqual([0, 1]);
  });
});

describe('a machine', () => {
  test.each(['multi', 'single'] as const)(
    'with thread=%s can be throttled, stopped while its vCPUs sleep, and let go on',
    async (thread) => {
      await using m = await Machine.create({
        kernel: kernel(CHATTER),
        memory: '8M',
        smp: 2,
        accel: { thread },
      });
      const port = m.serial[0]!;
      await port.waitFor('xxxx');
      expect(m.throttle).toBe(0);
      for (const percent of [99, 50, 1, 99]) {
        m.setThrottle(percent);
        expect(m.throttle).toBe(percent);
        await once(port, 'data');
        await m.pause();
        m.setThrottle(30);
        await m.resume();
      }
      m.setThrottle(0);
      await once(port, 'data');
      expect(m.throttle).toBe(0);
    },
  );

  test('refuses a throttle that is no number, and has none after its end', async () => {
    const m = await Machine.create({ kernel: kernel(CHATTER), memory: '8M' });
    expect(() => m.setThrottle(NaN)).toThrow(RangeError);
    m.setThrottle(99);
    await m.quit();
    expect(m.throttle).toBe(0);
    expect(() => m.setThrottle(1)).toThrow('has ended');
  });
});
