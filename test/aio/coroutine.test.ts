/** Coroutines that other threads have go on in their context (docs/clocks-rules.md, section 4). */
import { describe, expect, it } from 'vitest';
import { AioContext, microtasksDrained } from '../../src/aio/aio-context.ts';
import { Coroutine } from '../../src/aio/coroutine.ts';
import { ClockSystem } from '../../src/timer/clock.ts';

function setup() {
  const size = ClockSystem.layout().size;
  const buffer = new SharedArrayBuffer(size + AioContext.size({ maxBottomHalves: 8 }));
  const clocks = ClockSystem.init(buffer, 0);
  const context = AioContext.init(clocks, size, { maxBottomHalves: 8 });
  /** The context as another thread sees it. */
  const other = AioContext.attach(ClockSystem.attach(buffer, 0), size);
  const turn = async (): Promise<void> => {
    context.dispatch();
    await microtasksDrained();
  };
  return { context, other, turn, log: [] as unknown[] };
}

describe('a coroutine', () => {
  it('goes on in its own context, in the turn after it was scheduled', async () => {
    const { context, other, turn, log } = setup();
    const co = new Coroutine(context);
    void (async () => {
      log.push('before');
      await co.yield();
      log.push('after');
    })();
    await turn();
    expect(log).toEqual(['before']);
    other.coSchedule(co.index);
    await microtasksDrained();
    expect(log).toEqual(['before']);
    expect(context.timeout()).toBe(0);
    await turn();
    expect(log).toEqual(['before', 'after']);
  });

  it('several go on in the order in which they were scheduled', async () => {
    const { context, other, turn, log } = setup();
    const all = Array.from({ length: 4 }, () => new Coroutine(context));
    all.forEach((co, i) => void co.yield().then(() => log.push(i)));
    for (const i of [2, 0, 3, 1]) other.coSchedule(all[i].index);
    await turn();
    expect(log).toEqual([2, 0, 3, 1]);
  });

  it('scheduled more than once before it goes on, it goes on once', async () => {
    const { context, other, turn, log } = setup();
    const co = new Coroutine(context);
    void (async () => {
      for (;;) log.push(await co.yield());
    })();
    other.coSchedule(co.index);
    other.coSchedule(co.index);
    await turn();
    await turn();
    expect(log).toHaveLength(1);
  });

  it('scheduled before it yields, it does not wait', async () => {
    const { context, other, turn, log } = setup();
    const co = new Coroutine(context);
    other.coSchedule(co.index);
    await turn();
    await co.yield();
    void co.yield().then(() => log.push('again'));
    await turn();
    expect(log).toEqual([]);
    other.coSchedule(co.index);
    await turn();
    expect(log).toEqual(['again']);
  });

  it('its number is given back', async () => {
    const { context, turn } = setup();
    for (let i = 0; i < 20; i++) {
      new Coroutine(context).delete();
      await turn();
    }
  });
});
