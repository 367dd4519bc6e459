/** How long a halted vCPU looks for a kick before its thread sleeps, on a clock that is set by hand. */
import { describe, expect, test } from 'vitest';
import { struct, atomicI32 } from '@smp86/atomics-sync';
import { HALT_POLL, HaltPoll } from '../../src/machine/halt-poll.ts';

const US = 1000;
const PAUSE_NS = 50;

/** A vCPU that is kicked so long after it halts. */
function setup(running = 1, cores = 2) {
  let now = 0;
  let kickAt = 0;
  let byVcpu = true;
  let slept = 0;
  const polling = struct({ word: atomicI32 }).at(new SharedArrayBuffer(8), 0).word;
  const ops = { now: () => now, pause: () => void (now += PAUSE_NS) };
  const poll = new HaltPoll(ops, polling, { countRunning: () => running }, cores);
  const signals = {
    get sequence() {
      return now >= kickAt ? 1 : 0;
    },
    get kickedByVcpu() {
      return byVcpu;
    },
    sleep: () => {
      slept++;
      now = Math.max(now, kickAt);
    },
  };
  return {
    poll,
    polling,
    /** Whether the thread slept. */
    halt: (ns: number, vcpu = true): boolean => {
      kickAt = now + ns;
      byVcpu = vcpu;
      const before = slept;
      poll.wait(signals, 0);
      return slept !== before;
    },
  };
}

describe('halt polling', () => {
  test('short halts that another vCPU ends are looked through after the first ones', () => {
    const { halt, poll, polling } = setup();
    const slept = Array.from({ length: 8 }, () => halt(50 * US));
    expect(slept[0]).toBe(true);
    expect(slept.slice(4)).toEqual([false, false, false, false]);
    expect(poll.limit).toBeGreaterThanOrEqual(50 * US);
    expect(poll.limit).toBeLessThanOrEqual(HALT_POLL.MAX);
    expect(polling.load()).toBe(0);
  });
  test('a long halt ends it', () => {
    const { halt, poll } = setup();
    for (let i = 0; i < 8; i++) halt(50 * US);
    expect(halt(4000 * US)).toBe(true);
    expect(poll.limit).toBe(0);
    expect(halt(50 * US)).toBe(true);
  });
  test('what a device or a timer ends is not looked for', () => {
    const { halt, poll } = setup();
    for (let i = 0; i < 8; i++) expect(halt(50 * US, false)).toBe(true);
    expect(poll.limit).toBe(0);
  });
  test('no look when other vCPUs have all cores', () => {
    const { halt, polling } = setup(2, 2);
    for (let i = 0; i < 8; i++) expect(halt(50 * US)).toBe(true);
    expect(polling.load()).toBe(0);
  });
  test('no look when others that look have them', () => {
    const { halt, polling } = setup(1, 2);
    polling.store(1);
    for (let i = 0; i < 8; i++) expect(halt(50 * US)).toBe(true);
    expect(polling.load()).toBe(1);
  });
});
