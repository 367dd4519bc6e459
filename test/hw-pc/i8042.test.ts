import { describe, expect, test } from 'vitest';
import { I8042, I8042State } from '../../src/hw/input/i8042.ts';
import { KEY_PAUSE } from '../../src/hw/input/ps2-keyboard.ts';
import { set2Of, translate } from '../../src/hw/input/scan-codes.ts';
import { Port92, Port92State } from '../../src/hw/port92.ts';
import { dirtyState, FakeIrq } from '../hw/fakes.ts';

function machine() {
  const keyboardIrq = new FakeIrq();
  const mouseIrq = new FakeIrq();
  const a20 = new FakeIrq();
  a20.level = true;
  let resets = 0;
  const kbc = new I8042(dirtyState(I8042State), { keyboardIrq, mouseIrq, a20, reset: () => resets++ });
  kbc.reset();
  kbc.setUp();
  const status = (): number => kbc.command.read(0, 1);
  const read = (): number => kbc.data.read(0, 1);
  /** Everything that waits, as values; bytes of the mouse plus 0x100. */
  const drain = (): number[] => {
    const out: number[] = [];
    while ((status() & 1) !== 0) {
      const aux = (status() & 0x20) !== 0 ? 0x100 : 0;
      out.push(read() | aux);
    }
    return out;
  };
  const command = (byte: number, ...data: number[]): number[] => {
    kbc.command.write(0, 1, byte);
    for (const d of data) kbc.data.write(0, 1, d);
    return drain();
  };
  const keyboard = (...bytes: number[]): number[] => {
    for (const b of bytes) kbc.data.write(0, 1, b);
    return drain();
  };
  const mouse = (...bytes: number[]): number[] => bytes.flatMap((b) => command(0xd4, b));
  return {
    kbc,
    keyboardIrq,
    mouseIrq,
    a20,
    status,
    read,
    drain,
    command,
    keyboard,
    mouse,
    resets: () => resets,
  };
}

describe('controller', () => {
  test('the probe of Linux: command byte, AUX loop, interface tests, AUX disable and enable', () => {
    const { command } = machine();
    expect(command(0x20)).toEqual([0x65]);
    expect(command(0x60, 0x74)).toEqual([]);
    expect(command(0xd3, 0x5a)).toEqual([0x15a]);
    expect(command(0xa9)).toEqual([0x00]);
    expect(command(0xa8)).toEqual([]);
    expect(command(0x20)[0] & 0x20).toBe(0);
    expect(command(0xa7)).toEqual([]);
    expect(command(0x20)[0] & 0x20).toBe(0x20);
    expect(command(0xab)).toEqual([0x00]);
    expect(command(0xaa)).toEqual([0x55]);
  });

  test('the multiplexer probe gets its bytes back unchanged', () => {
    const { command } = machine();
    for (const b of [0xf0, 0x56, 0xa4]) expect(command(0xd3, b)).toEqual([0x100 | b]);
  });

  test('status tells command from data, and the lock is open', () => {
    const { kbc, status } = machine();
    kbc.command.write(0, 1, 0xa8);
    expect(status() & 0x18).toBe(0x18);
    kbc.data.write(0, 1, 0xf4);
    expect(status() & 0x18).toBe(0x10);
  });

  test('an AUX loop byte raises IRQ 12 only when that is enabled', () => {
    const { kbc, command, mouseIrq, keyboardIrq, read } = machine();
    command(0xd3, 1);
    expect(mouseIrq.rises).toBe(0);
    command(0x60, 0x47);
    kbc.command.write(0, 1, 0xd3);
    kbc.data.write(0, 1, 0x33);
    expect([mouseIrq.level, keyboardIrq.level]).toEqual([true, false]);
    expect([read(), mouseIrq.level]).toEqual([0x33, false]);
  });

  test('controller RAM keeps its bytes', () => {
    const { command } = machine();
    command(0x65, 0x99);
    expect(command(0x25)).toEqual([0x99]);
  });

  test('A20 by output port and by DD and DF', () => {
    const { command, a20 } = machine();
    expect(command(0xd0)[0] & 3).toBe(3);
    command(0xd1, 0xdd);
    expect(a20.level).toBe(false);
    command(0xdf);
    expect(a20.level).toBe(true);
    command(0xdd);
    expect(a20.level).toBe(false);
  });

  test('FE and an output port with bit 0 clear reset the machine, FF does not', () => {
    const { command, resets } = machine();
    command(0xff);
    expect(resets()).toBe(0);
    command(0xfe);
    expect(resets()).toBe(1);
    command(0xd1, 0x02);
    expect(resets()).toBe(2);
  });

  test('reading an empty buffer gives the last byte again', () => {
    const { command, read } = machine();
    command(0xaa);
    expect([read(), read()]).toEqual([0x55, 0x55]);
  });
});

describe('keyboard', () => {
  test('answers as atkbd expects: identify, reset, LEDs, rate, echo', () => {
    const { keyboard, kbc } = machine();
    expect(keyboard(0xf2)).toEqual([0xfa, 0xab, 0x41]);
    expect(keyboard(0xff)).toEqual([0xfa, 0xaa]);
    expect(keyboard(0xed, 0x07)).toEqual([0xfa, 0xfa]);
    expect(kbc.keyboard.leds).toBe(7);
    expect(keyboard(0xf3, 0x00)).toEqual([0xfa, 0xfa]);
    expect(keyboard(0xee)).toEqual([0xee]);
    expect(keyboard(0xfe)).toEqual([0xee]);
    expect(keyboard(0x00)).toEqual([0xfe]);
  });

  test('identifies as AB 83 without translation', () => {
    const { command, keyboard } = machine();
    command(0x60, 0x01);
    expect(keyboard(0xf2)).toEqual([0xfa, 0xab, 0x83]);
    expect(keyboard(0xf0, 0x00)).toEqual([0xfa, 0xfa, 0x02]);
  });

  test('keys arrive as set 1 with translation, as set 2 without', () => {
    const { kbc, command, drain } = machine();
    kbc.keyEvent(0x1e, true);
    kbc.keyEvent(0x1e, false);
    expect(drain()).toEqual([0x1e, 0x9e]);
    kbc.keyEvent(0xe048, true);
    kbc.keyEvent(0xe048, false);
    expect(drain()).toEqual([0xe0, 0x48, 0xe0, 0xc8]);
    kbc.keyEvent(KEY_PAUSE, true);
    expect(drain()).toEqual([0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
    command(0x60, 0x01);
    kbc.keyEvent(0x1e, true);
    kbc.keyEvent(0x1e, false);
    expect(drain()).toEqual([0x1c, 0xf0, 0x1c]);
  });

  test('every set 1 code of a key survives the way through set 2', () => {
    for (let code = 1; code <= 0x58; code++) expect(translate(set2Of(code))).toBe(code);
  });

  test('set 1 of the keyboard itself', () => {
    const { kbc, command, keyboard, drain } = machine();
    command(0x60, 0x01);
    expect(keyboard(0xf0, 0x01)).toEqual([0xfa, 0xfa]);
    kbc.keyEvent(0x1e, false);
    expect(drain()).toEqual([0x9e]);
    expect(keyboard(0xf0, 0x03)).toEqual([0xfa, 0xfe]);
  });

  test('each byte gives an edge of IRQ 1', () => {
    const { kbc, keyboardIrq, drain } = machine();
    kbc.keyEvent(0x1e, true);
    kbc.keyEvent(0x1e, false);
    expect(keyboardIrq.rises).toBe(1);
    drain();
    expect([keyboardIrq.rises, keyboardIrq.level]).toEqual([2, false]);
  });

  test('disabled scanning drops keys, a disabled interface holds them', () => {
    const { kbc, keyboard, command, drain } = machine();
    expect(keyboard(0xf5)).toEqual([0xfa]);
    kbc.keyEvent(0x1e, true);
    expect(drain()).toEqual([]);
    expect(keyboard(0xf4)).toEqual([0xfa]);
    command(0xad);
    kbc.keyEvent(0x1e, true);
    expect(drain()).toEqual([]);
    expect(command(0xae)).toEqual([0x1e]);
  });

  test('a reply goes before waiting keys, and a flood of keys is bounded', () => {
    const { kbc, keyboard, read } = machine();
    for (let i = 0; i < 1000; i++) kbc.keyEvent(0x1e, true);
    read();
    const out = keyboard(0xed);
    expect(out[1]).toBe(0xfa);
    expect(out.length).toBeLessThan(260);
  });
});

describe('mouse', () => {
  test('reset, identify, status', () => {
    const { mouse } = machine();
    expect(mouse(0xff)).toEqual([0x1fa, 0x1aa, 0x100]);
    expect(mouse(0xf2)).toEqual([0x1fa, 0x100]);
    expect(mouse(0xe9)).toEqual([0x1fa, 0x100, 0x102, 100 | 0x100]);
    expect(mouse(0xe8, 3, 0xe9)).toEqual([0x1fa, 0x1fa, 0x1fa, 0x100, 0x103, 100 | 0x100]);
  });

  test('the wheel is found by the sequence of sample rates 200, 100, 80', () => {
    const { mouse } = machine();
    mouse(0xf3, 200, 0xf3, 100, 0xf3, 80);
    expect(mouse(0xf2)).toEqual([0x1fa, 0x103]);
    mouse(0xf3, 200, 0xf3, 200, 0xf3, 80);
    expect(mouse(0xf2)).toEqual([0x1fa, 0x104]);
  });

  test('reports movement and buttons once enabled, upwards positive', () => {
    const { kbc, mouse, command, drain, mouseIrq } = machine();
    command(0x60, 0x47);
    kbc.mouseEvent(5, 5, 0, 0);
    expect(drain()).toEqual([]);
    mouse(0xf4);
    mouseIrq.rises = 0;
    kbc.mouseEvent(5, 3, 0, 1);
    expect(drain()).toEqual([0x129, 0x105, 0x1fd]);
    expect(mouseIrq.rises).toBe(3);
    kbc.mouseEvent(0, 0, 0, 0);
    expect(drain()).toEqual([0x108, 0x100, 0x100]);
  });

  test('a wheel step adds a fourth byte', () => {
    const { kbc, mouse, drain } = machine();
    mouse(0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4);
    kbc.mouseEvent(0, 0, -1, 0);
    expect(drain()).toEqual([0x108, 0x100, 0x100, 0x1ff]);
  });

  test('long movements are split and floods bounded', () => {
    const { kbc, mouse, drain } = machine();
    mouse(0xf4);
    kbc.mouseEvent(300, 0, 0, 0);
    expect(drain()).toEqual([0x108, 0x1ff, 0x100, 0x108, 0x12d, 0x100]);
    for (let i = 0; i < 10_000; i++) kbc.mouseEvent(1, 1, 0, i & 1);
    expect(drain().length).toBeLessThan(260);
  });

  test('remote mode reports when polled', () => {
    const { kbc, mouse, drain } = machine();
    mouse(0xf0);
    kbc.mouseEvent(2, -1, 0, 2);
    expect(drain()).toEqual([]);
    expect(mouse(0xeb)).toEqual([0x1fa, 0x10a, 0x102, 0x101]);
  });

  test('wrap mode echoes until it is left', () => {
    const { mouse } = machine();
    expect(mouse(0xee, 0x12, 0xf4, 0xec)).toEqual([0x1fa, 0x112, 0x1f4, 0x1fa]);
  });
});

test('port 92 switches A20 and resets', () => {
  const a20 = new FakeIrq();
  let resets = 0;
  const port = new Port92(dirtyState(Port92State), { a20, reset: () => resets++ });
  port.reset();
  port.write(0, 1, 0x02);
  expect([a20.level, port.read(), resets]).toEqual([true, 2, 0]);
  port.write(0, 1, 0x03);
  expect([port.read(), resets, a20.sets]).toEqual([2, 1, 1]);
});
