/** Rules of notify and wait (docs/clocks-rules.md, section 4); every interleaving of them: `explore notify-poll`. */
import { describe, expect, it } from 'vitest';
import { Notifier, NotifierState } from '../../src/timer/notifier.ts';

function setup() {
  const buffer = new SharedArrayBuffer(64);
  const state = NotifierState.at(buffer, 0);
  const notifier = new Notifier(state);
  const words = (): number[] => [state.notified.load(), state.notifyMe.load()];
  // what the futex is told
  const wakes: number[] = [];
  state.notified.notify = () => wakes.push(state.notified.load());
  return { state, notifier, words, wakes };
}

describe('notify', () => {
  it('of an owner that does not sleep stores the hint and wakes nobody', () => {
    const { notifier, words, wakes } = setup();
    notifier.notify();
    notifier.notify();
    expect(words()).toEqual([1, 0]);
    expect(wakes).toEqual([]);
  });

  it('of an owner that is about to sleep stores the hint, then wakes', () => {
    const { notifier, state, wakes } = setup();
    state.notifyMe.add(1);
    notifier.notify();
    expect(wakes).toEqual([1]);
  });
});

describe('a waiting owner', () => {
  it('does not announce itself when it is not going to sleep', () => {
    const { notifier, state } = setup();
    state.notifyMe.add = () => {
      throw new Error('announced');
    };
    notifier.wait(0);
    notifier.wait(-1);
  });

  it('has announced itself when it looks at the hint and while it sleeps, and not afterwards', () => {
    const { notifier, state, words } = setup();
    let asleep: number[] = [];
    state.notified.wait = (expected) => {
      expect(expected).toBe(0);
      asleep = words();
      return 0;
    };
    notifier.wait(1e6);
    expect(asleep).toEqual([0, 1]);
    expect(words()).toEqual([0, 0]);
  });

  it('inside another wait is counted, so that the outer one stays announced', () => {
    const { notifier, state, words } = setup();
    let depth = 0;
    const seen: number[] = [];
    state.notified.wait = () => {
      if (depth++ === 0) notifier.wait(1e6);
      seen.push(words()[1]);
      return 0;
    };
    notifier.wait(1e6);
    expect(seen).toEqual([2, 1]);
  });

  it('does not sleep when it was notified since it accepted', () => {
    const { notifier, words } = setup();
    notifier.notify();
    notifier.wait(Infinity);
    expect(words()).toEqual([1, 0]); // the hint is accepted by the owner's turn, not by its wait
    notifier.accept();
    expect(words()).toEqual([0, 0]);
  });

  it('rounds its timeout up to the grain of the wait, so that it is never early', () => {
    const { notifier, state } = setup();
    const timeouts: (number | undefined)[] = [];
    state.notified.wait = (_expected, timeout) => {
      timeouts.push(timeout);
      return 2;
    };
    for (const timeout of [1, 999, 1000, 1001, 5e6, Infinity]) notifier.wait(timeout);
    expect(timeouts).toEqual([1000, 1000, 1000, 2000, 5e6, Infinity]);
  });
});
