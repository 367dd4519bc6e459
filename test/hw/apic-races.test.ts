/**
 * Two threads at one local APIC, interleaved by hand: one of them is stopped before each of its
 * atomic operations in turn, and the other one's whole operation happens there.
 */
import { opsFor, type SyncOps } from '@smp86/atomics-sync';
import { describe, expect, it } from 'vitest';
import { INTERRUPT } from '../../src/cpu/env.ts';
import { ApicFixture, R } from './apic-fixture.ts';

interface Scene {
  readonly f: ApicFixture;
  /** Operations left until the other thread comes; Infinity: it does not. */
  stop: number;
  other: () => void;
}

/** A fixture whose atomic operations and signals count down to `other`. */
function scene(setUp: (f: ApicFixture) => void): Scene {
  const f = new ApicFixture(1);
  setUp(f);
  const s: Scene = { f, stop: Infinity, other: () => {} };
  const step = (): void => {
    if (--s.stop !== -1) return;
    s.stop = Infinity;
    s.other();
  };
  // The operations object is one per buffer and looked up at every call.
  const ops = opsFor(f.states[0].$views.buffer) as { -readonly [K in keyof SyncOps]: SyncOps[K] };
  const { load, store, or, and } = ops;
  ops.load = (addr) => (step(), load(addr));
  ops.store = (addr, value) => (step(), store(addr, value));
  ops.or = (addr, value) => (step(), or(addr, value));
  ops.and = (addr, value) => (step(), and(addr, value));
  const signals = f.signals[0];
  const interrupt = signals.interrupt.bind(signals);
  const clear = signals.clearInterrupt.bind(signals);
  signals.interrupt = (bits) => (step(), interrupt(bits));
  signals.clearInterrupt = (bits) => (step(), clear(bits));
  return s;
}

/** Runs `one` with `other` before each of its operations, and at its end; then `check`. */
function interleave(
  setUp: (f: ApicFixture) => void,
  one: (f: ApicFixture) => void,
  other: (f: ApicFixture) => void,
  check: (f: ApicFixture) => void,
): number {
  for (let at = 0; ; at++) {
    const s = scene(setUp);
    let came = false;
    s.other = () => {
      came = true;
      other(s.f);
    };
    s.stop = at;
    one(s.f);
    s.stop = Infinity;
    if (!came) other(s.f);
    check(s.f);
    if (!came) return at;
  }
}

/** What may be taken is asked for. */
function asked(f: ApicFixture): void {
  if (f.lapics[0].hasPending()) expect(f.signals[0].bits & INTERRUPT.HARD).toBe(INTERRUPT.HARD);
}
function both(
  setUp: (f: ApicFixture) => void,
  vcpu: (f: ApicFixture) => void,
  check: (f: ApicFixture) => void = asked,
): void {
  const send = (f: ApicFixture): void => void f.send(0x51);
  expect(interleave(setUp, vcpu, send, check)).toBeGreaterThan(0);
  expect(interleave(setUp, send, vcpu, check)).toBeGreaterThan(0);
}

describe('an interrupt sent by another thread is asked for when it meets', () => {
  it('a lowered task priority', () => {
    both(
      (f) => f.lapics[0].setCr8(15),
      (f) => f.lapics[0].setCr8(0),
    );
  });

  it('an end of interrupt', () => {
    both(
      (f) => {
        f.send(0x61);
        f.lapics[0].acknowledge();
      },
      (f) => f.lapics[0].eoi(),
    );
  });

  it('an acknowledge of nothing', () => {
    both(
      (f) => f.signals[0].interrupt(INTERRUPT.HARD),
      (f) => void f.lapics[0].acknowledge(),
    );
  });

  it('an acknowledge of a lower vector', () => {
    both(
      (f) => void f.send(0x41),
      (f) => void f.lapics[0].acknowledge(),
    );
  });

  it('the software enable, or is dropped', () => {
    both(
      (f) => f.lapics[0].write(R.SVR, 4, 0xff),
      (f) => f.lapics[0].write(R.SVR, 4, 0x1ff),
    );
  });

  it('an acknowledge of the same vector: taken once or twice, never lost', () => {
    let taken: number[] = [];
    both(
      (f) => {
        f.send(0x51);
        taken = [];
      },
      (f) => void taken.push(f.lapics[0].acknowledge()),
      (f) => {
        asked(f);
        expect(taken).toEqual([0x51]);
        f.lapics[0].eoi();
        asked(f);
      },
    );
  });
});
