import { describe, expect, test } from 'vitest';
import {
  FW_CFG,
  FW_CFG_DMA_PORT,
  FW_CFG_DMA_PORTS,
  FW_CFG_PORT,
  FW_CFG_PORTS,
  FwCfg,
  FwCfgError,
  FwCfgState,
} from '../../src/hw/fw-cfg.ts';
import { IoBus } from '../../src/hw/io-bus.ts';
import { dirtyState } from '../hw/fakes.ts';

const DMA = 0x100;

function machine() {
  const ram = new Uint8Array(0x10000);
  const inside = (address: number, length: number): boolean => address + length <= ram.length;
  const device = new FwCfg(dirtyState(FwCfgState), new Uint8Array(8192), {
    read(address, into) {
      if (!inside(address, into.length)) return false;
      into.set(ram.subarray(address, address + into.length));
      return true;
    },
    write(address, from) {
      if (!inside(address, from.length)) return false;
      ram.set(from, address);
      return true;
    },
  });
  device.powerOn();
  const ports = new IoBus();
  ports.register(FW_CFG_PORT, FW_CFG_PORTS, device.ports, 2);
  ports.register(FW_CFG_DMA_PORT, FW_CFG_DMA_PORTS, device.dma, 4);
  const read = (key: number, count: number): number[] => {
    ports.write(0x510, 2, key);
    return Array.from({ length: count }, () => ports.read(0x511, 1));
  };
  const view = new DataView(ram.buffer);
  /** Runs a DMA request and returns the control word that the device leaves. */
  const dma = (control: number, length: number, address: number): number => {
    view.setUint32(DMA, control);
    view.setUint32(DMA + 4, length);
    view.setBigUint64(DMA + 8, BigInt(address));
    // the register is big-endian: a little-endian processor swaps
    ports.write(0x514, 4, 0);
    const swapped = new DataView(new ArrayBuffer(4));
    swapped.setUint32(0, DMA);
    ports.write(0x518, 4, swapped.getUint32(0, true));
    return view.getUint32(DMA);
  };
  return { ram, device, ports, read, dma };
}
const text = (bytes: ArrayLike<number>): string => String.fromCharCode(...Array.from(bytes));

describe('data port', () => {
  test('signature and features', () => {
    const { read } = machine();
    expect(text(read(FW_CFG.SIGNATURE, 4))).toBe('QEMU');
    expect(read(FW_CFG.ID, 4)).toEqual([3, 0, 0, 0]);
  });

  test('reading past the end and of missing items gives zeros', () => {
    const { read, device } = machine();
    device.addNumber(FW_CFG.NB_CPUS, 0x104, 2);
    expect(read(FW_CFG.NB_CPUS, 4)).toEqual([4, 1, 0, 0]);
    expect(read(0x3333, 2)).toEqual([0, 0]);
  });

  test('the directory lists files in big-endian, and they are read under their keys', () => {
    const { read, device } = machine();
    const key = device.addFile('opt/a', Uint8Array.of(1, 2, 3));
    expect([key, device.addFile('opt/b', Uint8Array.of(9))]).toEqual([0x20, 0x21]);
    const dir = read(FW_CFG.FILE_DIR, 4 + 64 * 2);
    expect(dir.slice(0, 12)).toEqual([0, 0, 0, 2, 0, 0, 0, 3, 0, 0x20, 0, 0]);
    expect(text(dir.slice(12, 18))).toBe('opt/a\0');
    expect(dir.slice(68, 74)).toEqual([0, 0, 0, 1, 0, 0x21]);
    expect(read(0x20, 4)).toEqual([1, 2, 3, 0]);
  });

  test('host mistakes are errors', () => {
    const { device } = machine();
    device.addFile('a', new Uint8Array(1));
    expect(() => device.addFile('a', new Uint8Array(1))).toThrow(FwCfgError);
    expect(() => device.addFile('x'.repeat(56), new Uint8Array(1))).toThrow(FwCfgError);
    expect(() => device.addItem(FW_CFG.ID, new Uint8Array(1))).toThrow(FwCfgError);
    expect(() => device.addFile('big', new Uint8Array(9000))).toThrow(FwCfgError);
  });
});

describe('DMA', () => {
  test('the address register reads as "QEMU CFG"', () => {
    const { ports } = machine();
    const bytes = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => ports.read(0x514 + i, 1));
    expect(text(bytes)).toBe('QEMU CFG');
    expect(ports.read(0x514, 4)).toBe(0x554d4551);
  });

  test('select, skip and read', () => {
    const { dma, ram, device } = machine();
    const key = device.addFile(
      'f',
      Uint8Array.from('0123456789', (c) => c.charCodeAt(0)),
    );
    expect(dma(((key << 16) | 8 | 4) >>> 0, 3, 0)).toBe(0);
    ram.fill(0xff, 0x2000, 0x2010);
    expect(dma(2, 10, 0x2000)).toBe(0);
    expect(text(ram.subarray(0x2000, 0x2007))).toBe('3456789');
    expect([...ram.subarray(0x2007, 0x200b)]).toEqual([0, 0, 0, 0xff]);
  });

  test('a write reaches writable files only, within their size', () => {
    const { dma, ram, device } = machine();
    const open = device.addFile('open', new Uint8Array(4), true);
    const shut = device.addFile('shut', new Uint8Array(4));
    ram.set([1, 2, 3, 4, 5], 0x2000);
    expect(dma(((open << 16) | 8 | 16) >>> 0, 4, 0x2000)).toBe(0);
    expect([...device.file('open')!]).toEqual([1, 2, 3, 4]);
    expect(dma(((open << 16) | 8 | 16) >>> 0, 5, 0x2000)).toBe(1);
    expect(dma(((shut << 16) | 8 | 16) >>> 0, 4, 0x2000)).toBe(1);
    expect([...device.file('shut')!]).toEqual([0, 0, 0, 0]);
  });

  test('addresses outside RAM are an error the guest sees', () => {
    const { dma, device, ports } = machine();
    const key = device.addFile('f', new Uint8Array(4));
    expect(dma(((key << 16) | 8 | 2) >>> 0, 0xffffffff, 0x10000)).toBe(1);
    expect(dma(((key << 16) | 8 | 2) >>> 0, 4, 2 ** 52)).toBe(1);
    ports.write(0x514, 4, 0xffffffff);
    ports.write(0x518, 4, 0xffffffff);
  });
});
