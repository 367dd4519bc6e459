import { describe, expect, test } from 'vitest';
import type { IoHandler } from '../../src/hw/device.ts';
import { BusError, BusState, IoBus, MmioBus, type RegionMapper } from '../../src/hw/io-bus.ts';
import { freshState } from '../hw/fakes.ts';

/** Answers with its offset in every byte and logs what it was asked. */
function recorder(): IoHandler & { log: string[] } {
  const log: string[] = [];
  return {
    log,
    read(offset, size) {
      log.push(`r${size}@${offset}`);
      return ((offset + 1) * 0x01010101) >>> 0;
    },
    write(offset, size, value) {
      log.push(`w${size}@${offset}=${value.toString(16)}`);
    },
  };
}

describe('IoBus', () => {
  test('unassigned ports read all ones and swallow writes', () => {
    const bus = new IoBus();
    expect([bus.read(0x80, 1), bus.read(0x80, 2), bus.read(0x80, 4)]).toEqual([0xff, 0xffff, 0xffffffff]);
    bus.write(0x80, 4, 1);
  });

  test('a byte device sees a dword as four bytes, low first', () => {
    const bus = new IoBus();
    const dev = recorder();
    bus.register(0x3f8, 8, dev);
    expect(bus.read(0x3f8, 4)).toBe(0x04030201);
    bus.write(0x3f8, 4, 0x44332211);
    expect(dev.log).toEqual(['r1@0', 'r1@1', 'r1@2', 'r1@3', 'w1@0=11', 'w1@1=22', 'w1@2=33', 'w1@3=44']);
  });

  test('a dword device gets a dword in one piece and byte values masked', () => {
    const bus = new IoBus();
    const dev = recorder();
    bus.register(0xcf8, 8, dev, 4);
    expect(bus.read(0xcf8, 4)).toBe(0x01010101);
    expect(bus.read(0xcfd, 1)).toBe(6);
    expect(bus.read(0xcfc, 2)).toBe(0x0505);
    expect(dev.log).toEqual(['r4@0', 'r1@5', 'r2@4']);
  });

  test('an access that crosses an aligned dword is split', () => {
    const bus = new IoBus();
    const dev = recorder();
    bus.register(0xcf8, 8, dev, 4);
    bus.read(0xcfb, 2);
    bus.read(0xcfa, 4);
    expect(dev.log).toEqual(['r1@3', 'r1@4', 'r2@2', 'r2@4']);
  });

  test('the part outside the region reads all ones', () => {
    const bus = new IoBus();
    bus.register(0x92, 1, recorder());
    expect(bus.read(0x92, 2)).toBe(0xff01);
    expect(bus.read(0x91, 2)).toBe(0x01ff);
  });

  test('a one-port region of width 4 takes wide accesses whole', () => {
    const bus = new IoBus();
    const data = recorder();
    const other = recorder();
    bus.register(0x1f0, 1, data, 4);
    bus.register(0x1f1, 7, other);
    bus.write(0x1f0, 4, 0x12345678);
    bus.write(0x1f0, 2, 0x9abc);
    expect(data.log).toEqual(['w4@0=12345678', 'w2@0=9abc']);
    expect(other.log).toEqual([]);
  });

  test('overlapping fixed regions are a host mistake', () => {
    const bus = new IoBus();
    bus.register(0x60, 1, recorder());
    expect(() => bus.register(0x5f, 2, recorder())).toThrow(BusError);
    expect(() => bus.register(0xffff, 2, recorder())).toThrow(BusError);
  });

  test('an unregistered region is gone', () => {
    const bus = new IoBus();
    bus.register(0x60, 1, recorder());
    bus.unregister(0x60);
    expect(bus.read(0x60, 1)).toBe(0xff);
    expect(() => bus.unregister(0x60)).toThrow(BusError);
  });

  test('moves of a dynamic region are seen by every bus over the same state', () => {
    const state = freshState(BusState);
    const dev = recorder();
    const fixed = recorder();
    let base = 0xc000;
    const source = { mapRegions: (m: RegionMapper) => m.map(base, 4, dev, 4) };
    const buses = [new IoBus(state, source), new IoBus(state, source)];
    for (const bus of buses) bus.register(0xd000, 1, fixed);
    for (const bus of buses) expect(bus.read(0xc000, 4)).toBe(0x01010101);
    base = 0xcffe;
    state.generation++;
    for (const bus of buses) {
      expect(bus.read(0xc000, 4)).toBe(0xffffffff);
      expect(bus.read(0xcffe, 2)).toBe(0x0101);
      expect(bus.read(0xd000, 1)).toBe(1);
      expect(bus.read(0xd001, 1)).toBe(4);
    }
    expect(fixed.log.length).toBe(2);
  });
});

describe('MmioBus', () => {
  test('finds the region of an address and nothing between regions', () => {
    const bus = new MmioBus();
    const a = recorder();
    const b = recorder();
    bus.register(0xfee00000, 0x1000, a);
    bus.register(0xfec00000, 0x400, b);
    expect(bus.read(0xfee00020, 4)).toBe(0x21212121);
    expect(bus.read(0xfec00010, 4)).toBe(0x11111111);
    expect(bus.read(0xfec00400, 4)).toBe(0xffffffff);
    expect(bus.lookup(0xfed00000)).toBeUndefined();
    expect(bus.lookup(0xfee00fff)?.base).toBe(0xfee00000);
  });

  test('an access that leaves a region is split', () => {
    const bus = new MmioBus();
    const dev = recorder();
    bus.register(0xfed00000, 6, dev);
    expect(bus.read(0xfed00004, 4)).toBe(0xffff0505);
    bus.write(0xfed00004, 4, 0x11223344);
    expect(dev.log).toEqual(['r2@4', 'w2@4=3344']);
  });

  test('addresses above 4 GiB work', () => {
    const bus = new MmioBus();
    bus.register(2 ** 40, 16, recorder());
    expect(bus.read(2 ** 40 + 4, 1)).toBe(5);
    expect(bus.read(4, 1)).toBe(0xff);
  });

  test('two regions in one page are told apart whichever is cached', () => {
    const bus = new MmioBus();
    const a = recorder();
    const b = recorder();
    bus.register(0xfe000000, 0x100, a);
    bus.register(0xfe000100, 0x100, b);
    for (let i = 0; i < 3; i++) {
      bus.read(0xfe000000, 1);
      bus.read(0xfe000100, 1);
    }
    expect([a.log.length, b.log.length]).toEqual([3, 3]);
  });

  test('a moving region does not hide a fixed one', () => {
    const state = freshState(BusState);
    const fixed = recorder();
    const bar = recorder();
    const bus = new MmioBus(state, { mapRegions: (m) => m.map(0xfebff000, 0x3000, bar, 4) });
    bus.register(0xfec00000, 0x1000, fixed);
    bus.read(0xfebff000, 4);
    bus.read(0xfec00000, 4);
    expect(bus.read(0xfec01000, 1)).toBe(((0x2000 + 1) * 0x01010101) & 0xff);
    expect(fixed.log).toEqual(['r4@0']);
    expect(bar.log).toEqual(['r4@0', 'r1@8192']);
  });

  test('plain memory gives its place in the machine memory and is readable through the bus', () => {
    const state = freshState(BusState);
    const bus = new MmioBus(state, { mapRegions: (m) => m.mapRam(0xfd000000, 16, 32) });
    state.$views.u8[33] = 0x5a;
    expect(bus.lookup(0xfd000001)?.hostOffset).toBe(32);
    expect(bus.read(0xfd000001, 1)).toBe(0x5a);
    bus.write(0xfd000004, 4, 0x01020304);
    expect([...state.$views.u8.subarray(36, 40)]).toEqual([4, 3, 2, 1]);
  });
});

describe('doorbells', () => {
  /** Offset 4 is one. */
  function bell() {
    const rung: number[] = [];
    const dev = recorder();
    return {
      ...dev,
      rung,
      doorbell: (offset: number, _size: number, value: number) => {
        if (offset !== 4) return false;
        rung.push(value);
        return true;
      },
    };
  }

  test('only registers that need no lock are taken', () => {
    const dev = bell();
    const ports = new IoBus();
    ports.register(0x100, 8, dev, 4);
    expect(ports.doorbell(0x104, 2, 7)).toBe(true);
    expect(ports.doorbell(0x100, 2, 7)).toBe(false);
    expect(ports.doorbell(0x200, 2, 7)).toBe(false);
    const mmio = new MmioBus();
    mmio.register(0xfe000000, 0x1000, dev, 4);
    expect(mmio.doorbell(0xfe000004, 2, 8)).toBe(true);
    expect(mmio.doorbell(0xfe000008, 2, 8)).toBe(false);
    expect(mmio.doorbell(0xfe001004, 2, 8)).toBe(false);
    expect(dev.rung).toEqual([7, 8]);
  });

  test('after a mapping change they go through the lock, until the regions are derived anew', () => {
    const dev = bell();
    const state = freshState(BusState);
    let base = 0xe0000000;
    const source = { mapRegions: (mapper: RegionMapper) => mapper.map(base, 0x1000, dev, 4) };
    const bus = new MmioBus(state, source);
    bus.read(base, 4);
    expect(bus.doorbell(base + 4, 2, 1)).toBe(true);
    base = 0xe1000000;
    state.generation++;
    expect(bus.doorbell(0xe0000004, 2, 2)).toBe(false);
    bus.write(base + 8, 4, 0);
    expect(bus.doorbell(0xe0000004, 2, 3)).toBe(false);
    expect(bus.doorbell(base + 4, 2, 4)).toBe(true);
    expect(dev.rung).toEqual([1, 4]);
  });
});
