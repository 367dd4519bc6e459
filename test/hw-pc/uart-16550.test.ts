import { describe, expect, test } from 'vitest';
import { DebugExit, debugExitWidth } from '../../src/hw/char/debug-exit.ts';
import { Debugcon } from '../../src/hw/char/debugcon.ts';
import { ringSink } from '../../src/hw/char/byte-sink.ts';
import { Uart16550, Uart16550State } from '../../src/hw/char/uart-16550.ts';
import { IoBus } from '../../src/hw/io-bus.ts';
import { dirtyState, FakeClock, FakeIrq } from '../hw/fakes.ts';

const DATA = 0;
const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;

function machine() {
  const clock = new FakeClock();
  const irq = new FakeIrq();
  const out: number[] = [];
  const host = { room: Infinity, accepts: 0 };
  const timeout = clock.timer(() => uart.onTimeout());
  const transmit = clock.timer(() => uart.onTransmit());
  const uart = new Uart16550(dirtyState(Uart16550State), {
    clock,
    irq,
    timeoutTimer: timeout,
    transmitTimer: transmit,
    sink: { write: (b) => out.length < host.room && out.push(b) > 0 },
    acceptInput: () => host.accepts++,
  });
  uart.reset();
  return {
    clock,
    irq,
    out,
    host,
    uart,
    timeout,
    transmit,
    get: (port: number) => uart.read(port, 1),
    set: (port: number, value: number) => uart.write(port, 1, value),
  };
}

test('after reset the transmitter is empty and no interrupt is pending', () => {
  const { get, irq } = machine();
  expect([get(LSR), get(IIR), get(MSR), irq.level]).toEqual([0x60, 0x01, 0xb0, false]);
});

test('the divisor latch lies behind DLAB, scratch keeps its byte', () => {
  const { get, set } = machine();
  set(LCR, 0x83);
  set(DATA, 0x34);
  set(IER, 0x12);
  expect([get(DATA), get(IER)]).toEqual([0x34, 0x12]);
  set(LCR, 0x03);
  set(7, 0x5a);
  expect([get(IER), get(7)]).toEqual([0, 0x5a]);
});

describe('transmit', () => {
  test('goes to the backend at once', () => {
    const { get, set, out } = machine();
    for (const c of 'hi') set(DATA, c.charCodeAt(0));
    expect([out, get(LSR) & 0x60]).toEqual([[0x68, 0x69], 0x60]);
  });

  test('each byte gives a new THRE interrupt edge; reading IIR takes it back', () => {
    const { get, set, irq } = machine();
    set(IER, 2);
    expect([irq.level, get(IIR), irq.level, get(IIR)]).toEqual([true, 0x02, false, 0x01]);
    set(DATA, 1);
    set(DATA, 2);
    expect(irq.rises).toBe(3);
    set(IER, 0);
    expect(irq.level).toBe(false);
    set(IER, 2);
    expect(irq.level).toBe(true);
  });

  test('a full backend fills the FIFO and empties it again later', () => {
    const { clock, get, set, out, host, transmit } = machine();
    host.room = 1;
    set(FCR, 1);
    set(IER, 2);
    get(IIR);
    for (let i = 0; i < 17; i++) set(DATA, i);
    expect([out.length, get(LSR) & 0x60, get(IIR), transmit.pending]).toEqual([1, 0, 0xc1, true]);
    clock.advance(3e6);
    expect(transmit.pending).toBe(true);
    host.room = Infinity;
    clock.advance(3e6);
    expect(out).toEqual(Array.from({ length: 17 }, (_, i) => i));
    expect([get(LSR) & 0x60, get(IIR), transmit.pending]).toEqual([0x60, 0xc2, false]);
  });

  test('clearing the transmit FIFO drops what waits', () => {
    const { clock, get, set, out, host } = machine();
    host.room = 0;
    set(FCR, 1);
    set(DATA, 1);
    set(FCR, 5);
    host.room = Infinity;
    clock.advance(1e9);
    expect([out, get(LSR) & 0x60]).toEqual([[], 0x60]);
  });
});

describe('receive', () => {
  test('without FIFO one byte, then overrun', () => {
    const { get, uart } = machine();
    expect(uart.canReceive()).toBe(1);
    uart.receive(0x41);
    expect([uart.canReceive(), get(LSR) & 3]).toEqual([0, 1]);
    uart.receive(0x42);
    expect([get(LSR) & 3, get(LSR) & 3]).toEqual([3, 1]);
    expect([get(DATA), get(LSR) & 1]).toEqual([0x42, 0]);
  });

  test('RDI comes at the trigger level, and the backend is asked for more after a read', () => {
    const { get, set, uart, irq, host } = machine();
    set(IER, 1);
    set(FCR, 0x81);
    expect(uart.canReceive()).toBe(8);
    for (let i = 0; i < 7; i++) uart.receive(i);
    expect([irq.level, get(LSR) & 1, uart.canReceive()]).toEqual([false, 1, 1]);
    uart.receive(7);
    expect([irq.level, get(IIR)]).toEqual([true, 0xc4]);
    const before = host.accepts;
    get(DATA);
    expect([irq.level, host.accepts]).toEqual([false, before + 1]);
  });

  test('the 17th byte is lost and reported', () => {
    const { get, set, uart } = machine();
    set(FCR, 0xc1);
    for (let i = 0; i < 17; i++) uart.receive(i);
    expect([uart.canReceive(), get(LSR) & 3]).toEqual([0, 3]);
    for (let i = 0; i < 16; i++) expect(get(DATA)).toBe(i);
    expect([get(LSR) & 1, get(DATA)]).toEqual([0, 0]);
  });

  test('four character times of silence below the trigger give the time-out interrupt', () => {
    const { clock, get, set, uart, irq } = machine();
    set(LCR, 0x83);
    set(DATA, 1);
    set(IER, 0);
    set(LCR, 0x03); // 115200 8N1: 86.8 us a character
    set(IER, 1);
    set(FCR, 0xc1);
    uart.receive(1);
    uart.receive(2);
    clock.advance(347_000);
    expect(irq.level).toBe(false);
    clock.advance(1_000);
    expect([irq.level, get(IIR)]).toEqual([true, 0xcc]);
    get(DATA);
    expect(irq.level).toBe(false);
    clock.advance(348_000);
    expect(get(IIR)).toBe(0xcc);
    get(DATA);
    expect([irq.level, get(IIR)]).toEqual([false, 0xc1]);
    clock.advance(1e9);
    expect(irq.level).toBe(false);
  });

  test('a change of FCR0 empties the FIFOs', () => {
    const { get, set, uart } = machine();
    set(FCR, 1);
    uart.receive(1);
    set(FCR, 0);
    expect([get(LSR) & 1, get(IIR)]).toEqual([0, 1]);
  });

  test('a break is a zero byte with BI', () => {
    const { get, set, uart } = machine();
    set(IER, 4);
    uart.receiveBreak();
    expect([get(IIR), get(LSR) & 0x11, get(IIR), get(DATA)]).toEqual([6, 0x11, 1, 0]);
  });
});

test('IIR reports the highest priority first', () => {
  const { get, set, uart } = machine();
  set(MCR, 0x10);
  set(MCR, 0x00); // modem deltas
  set(IER, 0x0f);
  uart.receive(1);
  uart.receive(2);
  expect(get(IIR)).toBe(0x06);
  get(LSR);
  expect(get(IIR)).toBe(0x04);
  get(DATA);
  expect(get(IIR)).toBe(0x02);
  expect(get(IIR)).toBe(0x00);
  get(MSR);
  expect(get(IIR)).toBe(0x01);
});

describe('loop-back', () => {
  test('modem outputs appear as inputs (the test of serial drivers)', () => {
    const { get, set } = machine();
    set(MCR, 0x1a);
    expect(get(MSR) & 0xf0).toBe(0x90);
    set(MCR, 0x10);
    expect(get(MSR)).toBe(0x09);
  });

  test('bytes come back and do not go out', () => {
    const { get, set, out, uart } = machine();
    set(MCR, 0x10);
    set(DATA, 0x55);
    expect([out, get(LSR) & 0x61, get(DATA)]).toEqual([[], 0x61, 0x55]);
    expect(uart.canReceive()).toBe(0);
    uart.receive(1);
    expect(get(LSR) & 1).toBe(0);
  });
});

test('debug-exit exits with (value << 1) | 1', () => {
  const statuses: number[] = [];
  const bus = new IoBus();
  bus.register(0x501, 2, new DebugExit((s) => statuses.push(s)), debugExitWidth(2));
  bus.write(0x501, 1, 0x10);
  bus.write(0x501, 2, 0x1234);
  expect([statuses, bus.read(0x501, 1)]).toEqual([[0x21, 0x2469], 0]);
});

test('debugcon writes bytes and reads as E9', () => {
  const out: number[] = [];
  const ring = { writeByte: (b: number) => out.push(b) > 0 };
  const bus = new IoBus();
  bus.register(0xe9, 1, new Debugcon(ringSink(ring)));
  bus.write(0xe9, 1, 0x41);
  expect([out, bus.read(0xe9, 1)]).toEqual([[0x41], 0xe9]);
});
