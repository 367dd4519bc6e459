import { describe, expect, it } from 'vitest';
import { BlockBackend } from '../../src/block/backend.ts';
import {
  checkThrottleLimits,
  type NumberedTimer,
  ThrottleGroup,
  ThrottleGroupState,
  type ThrottleClock,
} from '../../src/block/throttle.ts';
import { ThrottleNode } from '../../src/block/throttle-node.ts';
import { MemoryNode } from './memory-node.ts';

const MS = 1e6;

/** A clock that a test moves, and its timers. */
class ManualClock implements ThrottleClock {
  time = 0;
  readonly #timers: { expire: number; callback: () => void }[] = [];

  now = (): number => this.time;
  timer = (index: number): NumberedTimer => ({
    index,
    mod: (expire) => void (this.#timers[index].expire = expire),
    del: () => void (this.#timers[index].expire = Infinity),
  });
  createTimer = (callback: () => void): NumberedTimer => {
    return this.timer(this.#timers.push({ expire: Infinity, callback }) - 1);
  };

  /** Runs timers up to `time`, ns, each at its time. */
  async to(time: number): Promise<void> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = this.#timers.reduce((a, b) => (b.expire < a.expire ? b : a));
      if (next.expire > time) break;
      this.time = Math.max(this.time, next.expire);
      next.expire = Infinity;
      next.callback();
    }
    this.time = time;
  }
}

/** Backends with limits, spread over iothreads, whose requests note when they ended. */
function setup(limits: Record<string, number>, members = 1, homes = 1) {
  const clock = new ManualClock();
  const state = ThrottleGroupState.at(new SharedArrayBuffer(ThrottleGroupState.size), 0);
  const groups = Array.from({ length: homes }, (_, home) => new ThrottleGroup(limits, state, home, clock));
  const node = new MemoryNode();
  const backends = Array.from({ length: members }, (_, i) => {
    return new BlockBackend(node, { throttle: groups[i % homes].join() });
  });
  const ended: { who: number; at: number }[] = [];
  const request = async (who: number, isWrite: boolean, bytes: number) => {
    const data = [new Uint8Array(bytes)];
    await (isWrite ? backends[who].write(0, data) : backends[who].read(0, data));
    ended.push({ who, at: clock.time });
  };
  return { clock, backends, ended, request, node };
}

describe('I/O limits', () => {
  it('let as many operations through in a second as they say, after a first tenth of one', async () => {
    const { clock, ended, request, node } = setup({ 'iops-total': 100 });
    await node.write(0, [new Uint8Array(4096)]);
    for (let i = 0; i < 200; i++) request(0, i % 2 === 0, 512);
    await clock.to(1000 * MS);
    expect(ended.length).toBeGreaterThanOrEqual(109);
    expect(ended.length).toBeLessThanOrEqual(112);
    await clock.to(2000 * MS);
    expect(ended.length).toBe(200);
  });

  it('count bytes, of writes only where they say so', async () => {
    const { clock, ended, request, node } = setup({ 'bps-write': 1 << 20 });
    await node.write(0, [new Uint8Array(1 << 17)]);
    for (let i = 0; i < 20; i++) request(0, true, 1 << 17);
    for (let i = 0; i < 20; i++) request(0, false, 1 << 17);
    await clock.to(0);
    expect(ended.length).toBe(21);
    await clock.to(1000 * MS);
    expect(ended.length).toBeGreaterThanOrEqual(28);
    expect(ended.length).toBeLessThanOrEqual(29);
  });

  it('allow a burst for its length, and then the average', async () => {
    const { clock, ended, request, node } = setup({
      'iops-total': 10,
      'iops-total-max': 100,
      'iops-total-max-length': 2,
    });
    await node.write(0, [new Uint8Array(4096)]);
    for (let i = 0; i < 400; i++) request(0, false, 512);
    await clock.to(1000 * MS);
    const burst = ended.length;
    expect(burst).toBeGreaterThanOrEqual(100);
    expect(burst).toBeLessThanOrEqual(115);
    await clock.to(10_000 * MS);
    const later = ended.length;
    await clock.to(11_000 * MS);
    expect(ended.length - later).toBeGreaterThanOrEqual(9);
    expect(ended.length - later).toBeLessThanOrEqual(11);
  });

  it('count a large request as several with iops-size', async () => {
    const { clock, ended, request, node } = setup({ 'iops-total': 100, 'iops-size': 4096 });
    await node.write(0, [new Uint8Array(40960)]);
    for (let i = 0; i < 20; i++) request(0, false, 40960);
    await clock.to(1000 * MS);
    expect(ended.length).toBeGreaterThanOrEqual(11);
    expect(ended.length).toBeLessThanOrEqual(12);
  });

  it.each([1, 2])('are shared by a group in turn, in %i iothreads', async (homes) => {
    const { clock, ended, request, node } = setup({ 'iops-total': 100 }, 2, homes);
    await node.write(0, [new Uint8Array(4096)]);
    for (let i = 0; i < 100; i++) request(0, false, 512);
    for (let i = 0; i < 100; i++) request(1, false, 512);
    await clock.to(1000 * MS);
    const later = ended.filter(({ at }) => at > 100 * MS);
    const ofFirst = later.filter(({ who }) => who === 0).length;
    expect(Math.abs(2 * ofFirst - later.length)).toBeLessThanOrEqual(2);
    expect(ended.length).toBeLessThanOrEqual(112);
    await clock.to(2100 * MS);
    expect(ended.length).toBe(200);
  });

  it('go on in the other iothreads when one that has the turn drains', async () => {
    const { clock, ended, request, backends, node } = setup({ 'iops-total': 10 }, 3, 3);
    await node.write(0, [new Uint8Array(4096)]);
    for (let i = 0; i < 10; i++) for (const who of [0, 1, 2]) request(who, false, 512);
    for (let at = 0; at < 20; at++) {
      await clock.to(at * 130 * MS);
      const drained = backends[at % 3];
      await drained.drainBegin();
      drained.drainEnd();
      request(at % 3, true, 512);
    }
    await clock.to(20_000 * MS);
    expect(ended.length).toBe(50);
  });

  it('of a filter node hold up what goes through it, until a drain of the drive', async () => {
    const clock = new ManualClock();
    const state = ThrottleGroupState.at(new SharedArrayBuffer(ThrottleGroupState.size), 0);
    const throttle = new ThrottleGroup({ 'iops-write': 1 }, state, 0, clock).join();
    const node = new MemoryNode();
    const backend = new BlockBackend(new ThrottleNode(node, throttle), { filters: [throttle] });
    const sector = [new Uint8Array(512)];
    await node.write(0, [new Uint8Array(4096)]);
    await backend.write(0, sector);
    let done = 0;
    for (let i = 0; i < 3; i++) void backend.write(i * 512, sector)?.then(() => done++);
    await backend.read(0, sector);
    await clock.to(0);
    expect(done).toBe(0);
    await clock.to(1000 * MS);
    expect(done).toBe(1);
    await backend.close();
    expect([done, node.closed]).toEqual([3, true]);
  });

  it('hold nobody up in a drain, while the clock stands still', async () => {
    const { clock, ended, request, backends, node } = setup({ 'iops-total': 1 });
    await node.write(0, [new Uint8Array(4096)]);
    for (let i = 0; i < 10; i++) request(0, false, 512);
    await clock.to(0);
    expect(ended.length).toBeLessThan(10);
    await backends[0].drainBegin();
    expect(ended.length).toBe(10);
    backends[0].drainEnd();
  });

  it.each([
    [{ 'bps-total': 1, 'bps-read': 1 }, 'cannot be used at the same time'],
    [{ 'iops-size': 1 }, 'iops size requires'],
    [{ 'bps-total-max': 5 }, 'require corresponding'],
    [{ 'bps-total': 5, 'bps-total-max': 4 }, 'cannot be lower'],
    [{ 'bps-total': 5, 'bps-total-max-length': 4 }, 'without burst rate'],
  ])('refuses %o', (limits, message) => {
    expect(() => checkThrottleLimits(limits as unknown as Record<string, number>)).toThrow(message);
  });
});
