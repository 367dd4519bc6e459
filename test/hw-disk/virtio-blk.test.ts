import { describe, expect, test } from 'vitest';
import { BlockError } from '../../src/block/errors.ts';
import { RUN } from '../../src/hw/virtio/virtio-state.ts';
import { AVAIL, DESC, F, RAM_SIZE, USED, VirtioRig } from './virtio-rig.ts';

const NEEDS_RESET = 0x40;

describe('registers', () => {
  test('ids of transitional and modern devices', () => {
    const transitional = new VirtioRig();
    expect(transitional.device.pci.readConfig(0, 4)).toBe(0x10011af4);
    expect(transitional.device.pci.readConfig(8, 4)).toBe(0x01000000);
    expect(transitional.device.pci.readConfig(0x2c, 4)).toBe(0x00021af4);
    const modern = new VirtioRig({}, true);
    expect(modern.device.pci.readConfig(0, 4)).toBe(0x10421af4);
    expect(modern.device.pci.readConfig(8, 4)).toBe(0x01000001);
    expect(modern.device.pci.readConfig(0x2c, 4)).toBe(0x11001af4);
    expect(modern.device.pci.bars.map((bar) => bar.index)).toEqual([1, 4]);
  });

  test('capabilities name the parts of the modern BAR', () => {
    const { pci } = new VirtioRig().device;
    const types: number[] = [];
    for (let at = pci.readConfig(0x34, 1); at !== 0; at = pci.readConfig(at + 1, 1)) {
      if (pci.readConfig(at, 1) !== 9) continue;
      const type = pci.readConfig(at + 3, 1);
      types.push(type);
      if (type === 5) continue;
      expect(pci.readConfig(at + 4, 1)).toBe(4);
      expect(pci.readConfig(at + 12, 4)).toBe(0x1000);
    }
    expect(types.sort()).toEqual([1, 2, 3, 4, 5]);
  });

  test('the window in configuration space reaches the common configuration', () => {
    const rig = new VirtioRig();
    const { pci } = rig.device;
    let at = pci.readConfig(0x34, 1);
    while (!(pci.readConfig(at, 1) === 9 && pci.readConfig(at + 3, 1) === 5)) at = pci.readConfig(at + 1, 1);
    pci.writeConfig(at + 4, 1, 4);
    pci.writeConfig(at + 8, 4, 0x12);
    pci.writeConfig(at + 12, 4, 2);
    expect(pci.readConfig(at + 16, 2)).toBe(1);
    pci.writeConfig(at + 8, 4, 0x14);
    pci.writeConfig(at + 12, 4, 1);
    pci.writeConfig(at + 16, 1, 3);
    expect(rig.status).toBe(3);
    // a window that leaves the BAR does nothing
    pci.writeConfig(at + 8, 4, 0xfffffffc);
    pci.writeConfig(at + 12, 4, 4);
    pci.writeConfig(at + 16, 4, 0);
    expect(rig.status).toBe(3);
  });

  test('features that were not offered are refused', () => {
    const rig = new VirtioRig();
    rig.setCommon(0x08, 4, 0);
    rig.setCommon(0x0c, 4, 1 << 7);
    rig.setCommon(0x08, 4, 1);
    rig.setCommon(0x0c, 4, 1);
    rig.setCommon(0x14, 1, 1 | 2 | 8);
    expect(rig.status).toBe(3);
  });

  test('capacity, queues and limits', () => {
    const rig = new VirtioRig({ queues: 4 });
    const config = (at: number, size: number): number => rig.bar(4).read(0x2000 + at, size);
    expect(config(0, 4)).toBe(2048);
    expect(config(12, 4)).toBe(254);
    expect(config(20, 4)).toBe(512);
    expect(config(32, 1)).toBe(1);
    expect(config(34, 2)).toBe(4);
    expect(config(36, 4)).toBe(0x3fffff);
    expect(rig.common(0x12, 2)).toBe(4);
    // MSI-X: a vector for each queue and one for the configuration
    const { pci } = rig.device;
    let at = pci.readConfig(0x34, 1);
    while (pci.readConfig(at, 1) !== 0x11) at = pci.readConfig(at + 1, 1);
    expect(pci.readConfig(at + 2, 2)).toBe(4);
  });

  test('queue registers do not change while the device runs', () => {
    const rig = new VirtioRig();
    rig.start();
    rig.setCommon(0x20, 4, 0x5000);
    expect(rig.common(0x20, 4)).toBe(DESC);
  });
});

describe('requests', () => {
  test('write, read back, flush', async () => {
    const rig = new VirtioRig();
    rig.start();
    for (let i = 0; i < 1024; i++) rig.view.setUint8(0x9000 + i, i * 7);
    expect(await rig.request(1, 5, [{ address: 0x9000, length: 1024 }])).toBe(0);
    expect([...rig.drive.data.subarray(2560, 2564)]).toEqual([0, 7, 14, 21]);
    expect(
      await rig.request(0, 5, [
        { address: 0xa000, length: 512, flags: F.WRITE },
        { address: 0xa800, length: 512, flags: F.WRITE },
      ]),
    ).toBe(0);
    expect(rig.view.getUint8(0xa801)).toBe((513 * 7) & 255);
    expect(rig.used(1)).toEqual({ id: 0, length: 1025 });
    expect(await rig.request(4, 0)).toBe(0);
    expect(rig.drive.log).toEqual(['write 2560', 'read 2560', 'flush']);
    // code may lie where a request stored
    expect(rig.written).toContainEqual([0xa000, 512]);
  });

  test('indirect descriptors', async () => {
    const rig = new VirtioRig();
    rig.start();
    rig.drive.data.fill(0x5a);
    rig.header(0x8000, 0, 1);
    rig.desc(0, { address: 0x8000, length: 16, flags: F.NEXT, next: 1 }, 0xb000);
    rig.desc(1, { address: 0x9000, length: 512, flags: F.WRITE | F.NEXT, next: 2 }, 0xb000);
    rig.desc(2, { address: 0x8100, length: 1, flags: F.WRITE }, 0xb000);
    rig.desc(3, { address: 0xb000, length: 48, flags: F.INDIRECT });
    rig.offer(3);
    rig.kick();
    await rig.turn();
    expect(rig.used(0)).toEqual({ id: 3, length: 513 });
    expect(rig.view.getUint8(0x9000)).toBe(0x5a);
  });

  test('identity, zeroes, discard', async () => {
    const rig = new VirtioRig({ serial: 'disk-1' });
    rig.start([13, 14]);
    expect(await rig.request(8, 0, [{ address: 0x9000, length: 20, flags: F.WRITE }])).toBe(0);
    expect(String.fromCharCode(...new Uint8Array(rig.view.buffer, rig.view.byteOffset + 0x9000, 7))).toBe(
      'disk-1\0',
    );
    rig.drive.data.fill(1);
    const segment = (sector: number, sectors: number, flags: number): void => {
      rig.view.setBigUint64(0x9000, BigInt(sector), true);
      rig.view.setUint32(0x9008, sectors, true);
      rig.view.setUint32(0x900c, flags, true);
    };
    segment(2, 3, 1);
    expect(await rig.request(13, 0, [{ address: 0x9000, length: 16 }])).toBe(0);
    segment(8, 8, 0);
    expect(await rig.request(11, 0, [{ address: 0x9000, length: 16 }])).toBe(0);
    segment(8, 8, 2);
    expect(await rig.request(11, 0, [{ address: 0x9000, length: 16 }])).toBe(2);
    segment(2047, 2, 0);
    expect(await rig.request(13, 0, [{ address: 0x9000, length: 16 }])).toBe(1);
    expect(rig.drive.log).toEqual(['zero 1024+1536 unmap', 'discard 4096+4096']);
  });

  test('errors', async () => {
    const rig = new VirtioRig();
    rig.start();
    const data = [{ address: 0x9000, length: 512, flags: F.WRITE }];
    expect(await rig.request(0, 2048, data)).toBe(1);
    expect(await rig.request(0, 2 ** 54, data)).toBe(1);
    expect(await rig.request(0, 0, [{ address: 0x9000, length: 100, flags: F.WRITE }])).toBe(1);
    expect(await rig.request(99, 0, data)).toBe(2);
    rig.drive.fail = new BlockError('ENOSPC', 'full');
    expect(await rig.request(0, 0, data)).toBe(1);
    rig.action = 'ignore';
    expect(await rig.request(0, 0, data)).toBe(0);
    expect(rig.status & NEEDS_RESET).toBe(0);
  });

  test('a request that stopped the machine is done again when it goes on', async () => {
    const rig = new VirtioRig();
    rig.start();
    rig.drive.fail = new BlockError('ENOSPC', 'full');
    rig.action = 'stop';
    expect(await rig.request(1, 3, [{ address: 0x9000, length: 512 }])).toBe(0xee);
    expect(rig.usedCount()).toBe(0);
    await rig.server.quiesce();
    rig.drive.fail = undefined;
    rig.server.resume();
    await rig.turn();
    expect(rig.usedCount()).toBe(1);
    expect(rig.view.getUint8(0x8100)).toBe(0);
    expect(rig.drive.log).toEqual(['write 1536', 'write 1536']);
  });

  test('without a write cache writes are stable when done', async () => {
    const rig = new VirtioRig();
    rig.start([9]); // no CONFIG_WCE, but FLUSH
    await rig.request(1, 0, [{ address: 0x9000, length: 512 }]);
    rig.setCommon(0x14, 1, 0);
    await rig.turn();
    expect(rig.status).toBe(0);
    rig.start([]);
    await rig.request(1, 1, [{ address: 0x9000, length: 512 }]);
    expect(rig.drive.log).toEqual(['write 0', 'write 512 fua']);
  });

  test('a queue that is full of running requests is looked at again', async () => {
    const rig = new VirtioRig();
    rig.start([], 4);
    rig.drive.hold = true;
    rig.header(0x8000, 0, 0);
    rig.chain(0, [
      { address: 0x8000, length: 16 },
      { address: 0x9000, length: 512, flags: F.WRITE },
      { address: 0x8100, length: 1, flags: F.WRITE },
    ]);
    // one descriptor offered again and again: no more requests than the queue is long
    for (let i = 0; i < 4; i++) rig.offer(0);
    rig.kick();
    await rig.turn();
    for (let i = 0; i < 4; i++) rig.offer(0);
    rig.kick();
    await rig.turn();
    expect(rig.drive.log).toHaveLength(4);
    rig.drive.release();
    await rig.turn();
    expect(rig.drive.log).toHaveLength(8);
    expect(rig.usedCount()).toBe(8);
  });
});

describe('interrupts', () => {
  test('INTx by way of the main loop; reading ISR ends it', async () => {
    const rig = new VirtioRig();
    rig.start([]);
    await rig.request(4, 0);
    expect(rig.intxPosted).toBe(1);
    rig.device.updateIntx();
    expect(rig.device.pci.state.intx).toBe(true);
    expect(rig.bar(4).read(0x1000, 1)).toBe(1);
    expect(rig.device.pci.state.intx).toBe(false);
    expect(rig.bar(4).read(0x1000, 1)).toBe(0);
  });

  function withMsix(rig: VirtioRig): number {
    const { pci } = rig.device;
    let at = pci.readConfig(0x34, 1);
    while (pci.readConfig(at, 1) !== 0x11) at = pci.readConfig(at + 1, 1);
    pci.writeConfig(at + 2, 2, 0x8000);
    for (const vector of [0, 1]) {
      rig.bar(1).write(vector * 16, 4, 0xfee00000);
      rig.bar(1).write(vector * 16 + 8, 4, 0x40 + vector);
      rig.bar(1).write(vector * 16 + 12, 4, 0);
    }
    rig.setCommon(0x10, 2, 0);
    rig.setCommon(0x16, 2, 0);
    rig.setCommon(0x1a, 2, 1);
    return at;
  }

  test('MSI-X: a message per completion, kept while masked', async () => {
    const rig = new VirtioRig();
    withMsix(rig);
    rig.start([]);
    await rig.request(4, 0);
    expect(rig.messages).toEqual([[0xfee00000, 0x41]]);
    rig.bar(1).write(16 + 12, 4, 1);
    await rig.request(4, 0);
    expect(rig.messages).toHaveLength(1);
    expect(rig.bar(1).read(0x800, 4)).toBe(2);
    rig.bar(1).write(16 + 12, 4, 0);
    expect(rig.messages).toHaveLength(2);
    expect(rig.intxPosted).toBe(0);
  });

  test('a vector that does not exist reads back as none', () => {
    const rig = new VirtioRig();
    rig.setCommon(0x1a, 2, 7);
    expect(rig.common(0x1a, 2)).toBe(0xffff);
  });

  test('no interrupt while the driver wants none; several completions make one', async () => {
    const rig = new VirtioRig();
    withMsix(rig);
    rig.start([]);
    rig.view.setUint16(AVAIL, 1, true);
    await rig.request(4, 0);
    expect(rig.messages).toHaveLength(0);
    rig.view.setUint16(AVAIL, 0, true);
    rig.offer(0);
    rig.offer(0);
    rig.offer(0);
    rig.kick();
    await rig.turn();
    expect(rig.messages).toHaveLength(1);
    expect(rig.usedCount()).toBe(4);
  });

  /** Offers a read of a sector, by descriptors from `first` on. */
  const offerRead = (rig: VirtioRig, first: number): void => {
    const at = 0x8000 + first * 32;
    rig.header(at, 0, first);
    rig.chain(first, [
      { address: at, length: 16 },
      { address: 0x10000 + first * 512, length: 512, flags: F.WRITE },
      { address: 0x9000 + first, length: 1, flags: F.WRITE },
    ]);
    rig.offer(first);
  };
  const SIZE = 64;
  /** The driver has seen so many requests done. */
  const seen = (rig: VirtioRig, index: number): void => {
    rig.view.setUint16(AVAIL + 4 + SIZE * 2, index, true);
  };
  /** The index from which the driver is to notify. */
  const availEvent = (rig: VirtioRig): number => rig.view.getUint16(USED + 4 + SIZE * 8, true);

  test('notifications are asked for before a sleep only', () => {
    const rig = new VirtioRig();
    rig.drive.atOnce = true;
    rig.start([9, 28, 29], SIZE);
    offerRead(rig, 0);
    rig.kick();
    rig.server.poll();
    expect(rig.usedCount()).toBe(1);
    expect(availEvent(rig)).toBe(0);
    seen(rig, 1);
    offerRead(rig, 3);
    expect(rig.server.ready()).toBe(true);
    rig.server.poll();
    expect(rig.usedCount()).toBe(2);
    seen(rig, 2);
    // one that comes just before the sleep
    expect(rig.server.ready()).toBe(false);
    offerRead(rig, 6);
    expect(rig.server.sleep()).toBe(true);
    rig.server.poll();
    expect(rig.usedCount()).toBe(3);
    expect(rig.server.sleep()).toBe(false);
    expect(availEvent(rig)).toBe(3);
    // asleep: only a notification tells
    offerRead(rig, 9);
    expect(rig.server.ready()).toBe(false);
    rig.kick();
    expect(rig.server.ready()).toBe(true);
  });

  test('a driver with several requests under way is told of several', async () => {
    const rig = new VirtioRig();
    rig.drive.atOnce = true;
    rig.start([9, 28, 29], SIZE);
    offerRead(rig, 0);
    rig.server.poll();
    expect(rig.intxPosted).toBe(1);
    seen(rig, 1);
    // one after the other: at once
    offerRead(rig, 3);
    rig.server.poll();
    expect(rig.intxPosted).toBe(2);
    seen(rig, 2);
    for (let i = 0; i < 8; i++) offerRead(rig, 6 + i * 3);
    rig.server.poll();
    expect(rig.usedCount()).toBe(10);
    expect(rig.intxPosted).toBe(3);
    seen(rig, 10);
    // it had 8 under way: it may have more to come
    offerRead(rig, 0);
    rig.server.poll();
    expect(rig.usedCount()).toBe(11);
    expect(rig.intxPosted).toBe(3);
    expect(rig.server.timeout()).toBeLessThan(1e6);
    expect(rig.server.sleep()).toBe(false);
    expect(availEvent(rig)).toBe(0);
    // but it has not
    while (!rig.server.ready());
    rig.server.poll();
    expect(rig.intxPosted).toBe(4);
    expect(rig.server.timeout()).toBe(Infinity);
    seen(rig, 11);
    // after some that come alone it is told at once again
    for (let i = 0; i < 8; i++) {
      offerRead(rig, 0);
      while (!rig.server.ready());
      rig.server.poll();
      while (rig.server.timeout() !== Infinity) rig.server.poll();
      seen(rig, 12 + i);
    }
    const before = rig.intxPosted;
    offerRead(rig, 0);
    rig.server.poll();
    expect(rig.intxPosted).toBe(before + 1);
  });

  test('event index: the driver is told when its index is passed', async () => {
    const rig = new VirtioRig();
    withMsix(rig);
    rig.start([29]);
    const usedEvent = AVAIL + 4 + 16 * 2;
    await rig.request(4, 0);
    expect(rig.messages).toHaveLength(1);
    rig.view.setUint16(usedEvent, 2, true); // tell me of the third
    await rig.request(4, 0);
    expect(rig.messages).toHaveLength(1);
    await rig.request(4, 0);
    expect(rig.messages).toHaveLength(2);
    // and the device says from which request on it wants to be notified
    expect(rig.view.getUint16(USED + 4 + 16 * 8, true)).toBe(3);
  });
});

describe('reset', () => {
  test('is complete when no request is in flight', async () => {
    const rig = new VirtioRig();
    rig.start([]);
    rig.drive.hold = true;
    await rig.request(0, 0, [{ address: 0x9000, length: 512, flags: F.WRITE }]);
    rig.setCommon(0x14, 1, 0);
    await rig.turn();
    expect(rig.status).not.toBe(0);
    expect(rig.device.state.run.load()).toBe(RUN.STOPPING);
    rig.drive.release();
    await rig.turn();
    expect(rig.status).toBe(0);
    expect(rig.common(0x20, 4)).toBe(0);
    rig.start([]);
    expect(await rig.request(4, 0)).toBe(0);
  });
});

describe('a driver that breaks the rules breaks its own device only', () => {
  const HEADER = { address: 0x8000, length: 16 };
  const STATUS = { address: 0x8100, length: 1, flags: F.WRITE };
  const CASES: [string, (rig: VirtioRig) => void][] = [
    ['a loop', (rig) => rig.desc(0, { ...HEADER, flags: F.NEXT, next: 0 })],
    [
      'a loop of two',
      (rig) => {
        rig.desc(0, { ...HEADER, flags: F.NEXT, next: 1 });
        rig.desc(1, { ...HEADER, flags: F.NEXT, next: 0 });
      },
    ],
    ['a buffer beyond RAM', (rig) => rig.chain(0, [HEADER, { address: RAM_SIZE - 8, length: 16 }, STATUS])],
    [
      'a buffer at 2^64 - 1',
      (rig) => rig.chain(0, [HEADER, { address: 2 ** 64 - 2048, length: 4096 }, STATUS]),
    ],
    ['a buffer of 4 GiB', (rig) => rig.chain(0, [HEADER, { address: 0, length: 0xffffffff }, STATUS])],
    ['a buffer of 0 bytes', (rig) => rig.chain(0, [HEADER, { address: 0x9000, length: 0 }, STATUS])],
    ['read after write', (rig) => rig.chain(0, [HEADER, STATUS, { address: 0x9000, length: 512 }])],
    ['a successor outside the table', (rig) => rig.desc(0, { ...HEADER, flags: F.NEXT, next: 16 })],
    ['a short header', (rig) => rig.chain(0, [{ address: 0x8000, length: 15 }, STATUS])],
    ['no status', (rig) => rig.chain(0, [HEADER, { address: 0x9000, length: 512 }])],
    ['an empty indirect table', (rig) => rig.desc(0, { address: 0xb000, length: 0, flags: F.INDIRECT })],
    ['an odd indirect table', (rig) => rig.desc(0, { address: 0xb000, length: 17, flags: F.INDIRECT })],
    [
      'an indirect table beyond RAM',
      (rig) => rig.desc(0, { address: RAM_SIZE, length: 16, flags: F.INDIRECT }),
    ],
    [
      'an indirect table in an indirect table',
      (rig) => {
        rig.desc(0, { address: 0xb000, length: 32, flags: F.INDIRECT }, 0xb000);
        rig.desc(0, { address: 0xb000, length: 32, flags: F.INDIRECT });
      },
    ],
    [
      'a loop in an indirect table',
      (rig) => {
        rig.desc(0, { ...HEADER, flags: F.NEXT, next: 0 }, 0xb000);
        rig.desc(0, { address: 0xb000, length: 0x1000, flags: F.INDIRECT });
      },
    ],
  ];

  test.each(CASES)('%s', async (_name, build) => {
    const rig = new VirtioRig();
    rig.start();
    rig.header(0x8000, 0, 0);
    build(rig);
    rig.offer(0);
    rig.kick();
    await rig.turn();
    expect(rig.errors).toHaveLength(1);
    expect(rig.status & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(rig.usedCount()).toBe(0);
    expect(rig.drive.log).toEqual([]);
    // nothing more is served
    rig.kick();
    await rig.turn();
    expect(rig.errors).toHaveLength(1);
    // until a reset
    rig.setCommon(0x14, 1, 0);
    await rig.turn();
    expect(rig.status).toBe(0);
    rig.view.setUint16(AVAIL + 2, 0, true);
    rig.view.setUint16(USED + 2, 0, true);
    rig.start();
    expect(await rig.request(4, 0)).toBe(0);
  });

  test('an avail index that jumps', async () => {
    const rig = new VirtioRig();
    rig.start();
    rig.view.setUint16(AVAIL + 2, 17, true);
    rig.kick();
    await rig.turn();
    expect(rig.status & NEEDS_RESET).toBe(NEEDS_RESET);
  });

  test.each([
    ['beyond RAM', 0x20, RAM_SIZE - 16],
    ['above 4 GiB', 0x24, 1],
    ['misaligned used ring', 0x30, 0x3002],
    ['misaligned avail ring', 0x28, 0x2001],
  ])('rings %s', async (_name, register, value) => {
    const rig = new VirtioRig();
    rig.setCommon(register, 4, value);
    const set = rig.setCommon.bind(rig);
    rig.setCommon = (at, size, v) => {
      if (at !== register) set(at, size, v);
    };
    rig.start();
    await rig.turn();
    expect(rig.status & NEEDS_RESET).toBe(NEEDS_RESET);
  });

  test('without bus mastering nothing is read from memory', async () => {
    const rig = new VirtioRig();
    rig.start();
    rig.device.pci.writeConfig(4, 2, 2);
    expect(await rig.request(4, 0)).toBe(0xee);
    rig.device.pci.writeConfig(4, 2, 6);
    await rig.turn();
    expect(rig.view.getUint8(0x8100)).toBe(0);
  });
});

describe('legacy registers', () => {
  test('a driver of old finds its way', async () => {
    const rig = new VirtioRig();
    const io = rig.bar(0);
    io.write(18, 1, 3);
    const offered = io.read(0, 4);
    expect((offered >>> 24) & 1).toBe(1);
    io.write(4, 4, offered & ~(1 << 29));
    io.write(14, 2, 0);
    expect(io.read(12, 2)).toBe(256);
    io.write(8, 4, 0x40); // rings at 0x40000
    expect(io.read(8, 4)).toBe(0x40);
    expect(io.read(20, 4)).toBe(2048); // capacity follows directly without MSI-X
    io.write(18, 1, 7);
    const ring = 0x40000;
    const avail = ring + 256 * 16;
    const used = ring + 0x2000;
    rig.header(0x8000, 4, 0);
    rig.desc(0, { address: 0x8000, length: 16, flags: F.NEXT, next: 1 }, ring);
    rig.desc(1, { address: 0x8100, length: 1, flags: F.WRITE }, ring);
    rig.view.setUint8(0x8100, 0xee);
    rig.view.setUint16(avail + 4, 0, true);
    rig.view.setUint16(avail + 2, 1, true);
    expect(io.doorbell?.(16, 2, 0)).toBe(true);
    await rig.turn();
    expect(rig.view.getUint8(0x8100)).toBe(0);
    expect(rig.view.getUint16(used + 2, true)).toBe(1);
    rig.device.updateIntx();
    expect(io.read(19, 1)).toBe(1);
  });
});
