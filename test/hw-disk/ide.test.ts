import { describe, expect, test } from 'vitest';
import { BlockError } from '../../src/block/errors.ts';
import { CD, IdeRig, RAM_SIZE } from './ide-rig.ts';

const READY = 0x50;
const DRQ = 0x58;
const ERR = 0x51;

describe('ATA', () => {
  test('signature after reset; a slave that is not there reads as zero', () => {
    const rig = new IdeRig();
    expect([2, 3, 4, 5].map((r) => rig.read(r))).toEqual([1, 1, 0, 0]);
    rig.write(6, 0xb0);
    expect(rig.status).toBe(0);
    rig.write(7, 0xec);
    expect(rig.irq.rises).toBe(0);
  });

  test('identity', async () => {
    const rig = new IdeRig();
    await rig.command(0xec);
    expect(rig.status).toBe(DRQ);
    const words = rig.readWords(256);
    const text = (first: number, count: number): string =>
      words
        .slice(first, first + count)
        .map((w) => String.fromCharCode(w >> 8, w & 255))
        .join('')
        .trim();
    expect(text(27, 20)).toBe('QEMU HARDDISK');
    expect(text(10, 10)).toBe('QM00001');
    expect(words[60] | (words[61] << 16)).toBe(2048);
    expect(words[100]).toBe(2048);
    expect(words[88]).toBe(0x203f);
    expect(words[83] & (1 << 10)).not.toBe(0);
    expect(rig.status).toBe(READY);
  });

  test('PIO: write and read back, 28 bits', async () => {
    const rig = new IdeRig();
    await rig.rw(0x30, 5, 3);
    expect(rig.status).toBe(DRQ);
    for (let i = 0; i < 3 * 256; i++) rig.io.data.write(0, 2, i);
    await rig.turn();
    expect(rig.status).toBe(READY);
    expect([...rig.drive.data.subarray(2560, 2564)]).toEqual([0, 0, 1, 0]);
    const irqs = rig.irq.rises;
    await rig.rw(0x20, 5, 3);
    let last = 0;
    for (let sector = 0; sector < 3; sector++) {
      expect(rig.status).toBe(DRQ);
      last = rig.readWords(256)[255];
    }
    expect(last).toBe(767);
    // an interrupt a sector
    expect(rig.irq.rises - irqs).toBe(3);
    expect(rig.status).toBe(READY);
  });

  test('READ MULTIPLE gives an interrupt a block; 32-bit reads', async () => {
    const rig = new IdeRig();
    rig.drive.data.fill(0x11);
    rig.write(2, 8);
    await rig.command(0xc6);
    const irqs = rig.irq.rises;
    await rig.rw(0xc4, 0, 20);
    for (let i = 0; i < 20 * 128; i++) {
      if (i % (8 * 128) === 0) expect(rig.status).toBe(DRQ);
      if (rig.io.data.read(0, 4) !== 0x11111111) throw new Error(`dword ${i}`);
    }
    expect(rig.irq.rises - irqs).toBe(3);
    rig.write(2, 3);
    await rig.command(0xc6);
    expect(rig.status).toBe(ERR);
  });

  test('48-bit addresses', async () => {
    const rig = new IdeRig();
    rig.drive.data[300 * 512] = 0x77;
    rig.write48(300, 300);
    await rig.command(0x24);
    expect(rig.io.data.read(0, 2)).toBe(0x77);
    // 300 sectors are more than the buffer holds
    for (let i = 1; i < 300 * 256; i++) {
      if (rig.altStatus !== DRQ) await rig.turn();
      rig.io.data.read(0, 2);
    }
    expect(rig.status).toBe(READY);
    expect(rig.drive.log).toEqual(['read 153600', `read ${153600 + 256 * 512}`]);
  });

  test.each([
    ['beyond the end', 2047, 2],
    ['far beyond', 0xfffffff, 1],
  ])('%s', async (_name, lba, count) => {
    const rig = new IdeRig();
    await rig.rw(0x20, lba, count);
    expect(rig.status).toBe(ERR);
    expect(rig.read(1)).toBe(4);
    expect(rig.drive.log).toEqual([]);
  });

  test('a read error names the sector', async () => {
    const rig = new IdeRig();
    rig.drive.fail = new BlockError('EIO', 'broken');
    await rig.rw(0x20, 9, 1);
    expect(rig.status).toBe(ERR);
    expect(rig.read(1)).toBe(0x40);
    expect(rig.read(3)).toBe(9);
  });

  test('flush, write cache off, power, SMART, unknown commands', async () => {
    const rig = new IdeRig();
    await rig.command(0xe7);
    rig.write(1, 0x82);
    await rig.command(0xef);
    expect(rig.status).toBe(READY);
    rig.prd(0x1000, [[0x8000, 512]]);
    await rig.dma(0xca, 0, 1, 0x1000);
    expect(rig.drive.log).toEqual(['flush', 'flush', 'write 0 fua']);
    await rig.command(0xe5);
    expect(rig.read(2)).toBe(0xff);
    rig.write(1, 0xda);
    rig.write(4, 0x4f);
    rig.write(5, 0xc2);
    await rig.command(0xb0);
    expect(rig.status).toBe(READY);
    expect([rig.read(4), rig.read(5)]).toEqual([0x4f, 0xc2]);
    await rig.command(0xfe);
    expect(rig.status).toBe(ERR);
  });

  test('no interrupt while nIEN is set; reading status ends one', async () => {
    const rig = new IdeRig();
    rig.io.control.write(0, 1, 2);
    await rig.command(0xe7);
    expect(rig.irq.level).toBe(false);
    rig.io.control.write(0, 1, 0);
    expect(rig.irq.level).toBe(true);
    expect(rig.altStatus).toBe(READY);
    expect(rig.irq.level).toBe(true);
    void rig.status;
    expect(rig.irq.level).toBe(false);
  });

  test('software reset ends a command', async () => {
    const rig = new IdeRig();
    await rig.rw(0x30, 0, 1);
    rig.io.control.write(0, 1, 4);
    expect(rig.status & 0x80).toBe(0x80);
    rig.io.control.write(0, 1, 0);
    expect(rig.status).toBe(READY);
    expect(rig.read(1)).toBe(1);
    expect(rig.drive.log).toEqual([]);
  });
});

describe('bus master', () => {
  test('reads and writes scattered memory', async () => {
    const rig = new IdeRig();
    for (let i = 0; i < 4096; i++) rig.drive.data[i] = i * 3;
    rig.prd(0x1000, [
      [0x8000, 1000],
      [0x10002, 3096],
    ]);
    await rig.dma(0xc8, 0, 8, 0x1000);
    expect(rig.view.getUint8(0x8000 + 999)).toBe((999 * 3) & 255);
    expect(rig.view.getUint8(0x10002)).toBe((1000 * 3) & 255);
    expect(rig.status).toBe(READY);
    // inactive, interrupt
    expect(rig.io.busMaster.read(2, 1) & 7).toBe(4);
    expect(rig.written).toContainEqual([0x8000, 1000]);
    await rig.dma(0xca, 64, 8, 0x1000);
    expect([...rig.drive.data.subarray(32768, 32768 + 4096)]).toEqual([...rig.drive.data.subarray(0, 4096)]);
  });

  test('a table with room left stays active', async () => {
    const rig = new IdeRig();
    rig.prd(0x1000, [[0x8000, 0x10000]]);
    await rig.dma(0xc8, 0, 1, 0x1000);
    expect(rig.io.busMaster.read(2, 1) & 7).toBe(5);
    rig.io.busMaster.write(0, 1, 0);
    expect(rig.io.busMaster.read(2, 1) & 1).toBe(0);
  });

  test('TRIM', async () => {
    const rig = new IdeRig();
    rig.view.setBigUint64(0x8000, (16n << 48n) | 100n, true);
    rig.prd(0x1000, [[0x8000, 512]]);
    rig.write(1, 1);
    rig.write(2, 0); // high byte of the count
    await rig.dma(0x06, 0, 1, 0x1000);
    expect(rig.drive.log).toEqual(['discard 51200+8192']);
    rig.view.setBigUint64(0x8000, (16n << 48n) | 2040n, true);
    rig.write(1, 1);
    rig.write(2, 0); // high byte of the count
    await rig.dma(0x06, 0, 1, 0x1000);
    expect(rig.status).toBe(ERR);
  });

  test.each([
    ['too short', [[0x8000, 512]] as const, READY, 0],
    ['empty memory', [[RAM_SIZE, 4096]] as const, ERR, 2],
    ['the end of RAM', [[RAM_SIZE - 512, 4096]] as const, ERR, 2],
    ['the top of the address space', [[0xfffffffe, 4096]] as const, ERR, 2],
  ])('a table that is %s', async (_name, table, status, bm) => {
    const rig = new IdeRig();
    rig.prd(0x1000, table);
    await rig.dma(0xc8, 0, 8, 0x1000);
    expect(rig.status).toBe(status);
    expect(rig.io.busMaster.read(2, 1) & 3).toBe(bm);
    // and the drive works on
    rig.io.busMaster.write(2, 1, 6);
    rig.prd(0x1000, [[0x8000, 4096]]);
    await rig.dma(0xc8, 0, 8, 0x1000);
    expect(rig.status).toBe(READY);
  });

  test('a table outside RAM, and one without an end', async () => {
    const rig = new IdeRig();
    await rig.dma(0xc8, 0, 8, RAM_SIZE);
    expect(rig.status).toBe(ERR);
    // entries of one sector each, none marked as the last, up to the end of RAM
    for (let at = RAM_SIZE - 64; at < RAM_SIZE; at += 8) {
      rig.view.setUint32(at, 0x8000, true);
      rig.view.setUint32(at + 4, 512, true);
    }
    await rig.dma(0xc8, 0, 200, RAM_SIZE - 64);
    expect(rig.status).toBe(ERR);
  });

  test('many pieces of odd sizes', async () => {
    const rig = new IdeRig();
    for (let i = 0; i < 64 * 512; i++) rig.drive.data[i] = i % 251;
    // 8192 pieces of 2 and 6 bytes
    const pieces = Array.from({ length: 8192 }, (_, i) => [0x20000 + i * 8, i % 2 === 0 ? 2 : 6] as const);
    rig.prd(0x40000, pieces);
    await rig.dma(0xc8, 0, 64, 0x40000);
    expect(rig.status).toBe(READY);
    expect(rig.view.getUint8(0x20000 + 8 * 8191 + 5)).toBe((64 * 512 - 1) % 251);
  });

  test('without bus mastering nothing moves; the command waits', async () => {
    const rig = new IdeRig();
    rig.ide.pci.writeConfig(4, 2, 1);
    rig.prd(0x1000, [[0x8000, 512]]);
    await rig.dma(0xc8, 0, 1, 0x1000);
    expect(rig.status).toBe(DRQ);
    expect(rig.drive.log).toEqual([]);
  });

  test('a machine that stopped for an error does the request again', async () => {
    const rig = new IdeRig();
    rig.drive.fail = new BlockError('ENOSPC', 'full');
    rig.action = 'stop';
    rig.prd(0x1000, [[0x8000, 512]]);
    await rig.dma(0xca, 0, 1, 0x1000);
    expect(rig.status & 0x80).toBe(0x80);
    rig.drive.fail = undefined;
    await rig.server.quiesce();
    rig.server.resume();
    await rig.turn();
    expect(rig.status).toBe(READY);
    expect(rig.drive.log).toEqual(['write 0', 'write 0']);
  });
});

describe('ATAPI', () => {
  test('signature and identity', async () => {
    const rig = new IdeRig(CD);
    expect([4, 5].map((r) => rig.read(r))).toEqual([0x14, 0xeb]);
    await rig.command(0xec);
    expect(rig.status).toBe(ERR);
    await rig.command(0xa1);
    expect(rig.readWords(256)[0]).toBe(0x85c0);
  });

  test('INQUIRY, READ CAPACITY, READ TOC', async () => {
    const rig = new IdeRig(CD);
    const inquiry = await rig.packet([0x12, 0, 0, 0, 36]);
    expect(String.fromCharCode(...inquiry.subarray(8, 32))).toBe('QEMU    QEMU DVD-ROM    ');
    expect([...(await rig.packet([0x25]))]).toEqual([0, 0, 1, 255, 0, 0, 8, 0]);
    const toc = await rig.packet([0x43, 0, 0, 0, 0, 0, 0, 0, 20]);
    expect([...toc]).toEqual([0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x16, 0xaa, 0, 0, 0, 2, 0]);
    const msf = await rig.packet([0x43, 2, 0, 0, 0, 0, 0xaa, 0, 12]);
    expect([...msf.subarray(8)]).toEqual([0, 0, 8, 62]);
  });

  test('READ(10) by PIO, in blocks of the size that the host gave', async () => {
    const rig = new IdeRig(CD);
    for (let i = 0; i < 8192; i++) rig.drive.data[i] = i % 253;
    const data = await rig.packet([0x28, 0, 0, 0, 0, 1, 0, 0, 3], 3000);
    expect(data).toHaveLength(6144);
    expect(data[6143]).toBe((2048 + 6143) % 253);
    expect(rig.blocks).toEqual([3000, 3000, 144]);
  });

  test('READ(12) by DMA, and an answer by DMA', async () => {
    const rig = new IdeRig(CD);
    for (let i = 0; i < 8192; i++) rig.drive.data[i] = i % 253;
    rig.prd(0x1000, [[0x8000, 4096]]);
    await rig.packetDma([0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 2], 0x1000);
    expect(rig.status).toBe(READY);
    expect(rig.view.getUint8(0x8000 + 4095)).toBe((2048 + 4095) % 253);
    rig.prd(0x1000, [[0x9000, 8]]);
    await rig.packetDma([0x25], 0x1000);
    expect(rig.view.getUint32(0x9000)).toBe(511);
    rig.prd(0x1000, [[RAM_SIZE, 8]]);
    await rig.packetDma([0x25], 0x1000);
    expect(rig.status).toBe(ERR);
  });

  test('errors leave sense data', async () => {
    const rig = new IdeRig(CD);
    await rig.packet([0x28, 0, 0, 0, 2, 0, 0, 0, 1]);
    expect(rig.status).toBe(ERR);
    expect(rig.read(1) >> 4).toBe(5);
    const sense = await rig.packet([0x03, 0, 0, 0, 18]);
    expect([sense[2], sense[12]]).toEqual([5, 0x21]);
    await rig.packet([0xff]);
    expect((await rig.packet([0x03, 0, 0, 0, 18]))[12]).toBe(0x20);
  });

  test('tray: locked, ejected, closed', async () => {
    const rig = new IdeRig(CD);
    await rig.packet([0x1e, 0, 0, 0, 1]);
    await rig.packet([0x1b, 0, 0, 0, 2]);
    expect(rig.status).toBe(ERR);
    await rig.packet([0x1e, 0, 0, 0, 0]);
    await rig.packet([0x1b, 0, 0, 0, 2]);
    expect(rig.status).toBe(READY);
    await rig.packet([0]);
    expect((await rig.packet([0x03, 0, 0, 0, 18]))[12]).toBe(0x3a);
    expect([...(await rig.packet([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]))]).toEqual([0, 6, 4, 16, 0, 1, 0, 0]);
    await rig.packet([0x1b, 0, 0, 0, 3]);
    await rig.packet([0]);
    expect(rig.status).toBe(READY);
  });

  test('a byte limit of 0 or 1 does not hang a transfer', async () => {
    for (const limit of [0, 1, 3]) {
      const rig = new IdeRig(CD);
      expect(await rig.packet([0x12, 0, 0, 0, 36], limit)).toHaveLength(36);
    }
  });

  test('MODE SENSE, GET CONFIGURATION, disc information', async () => {
    const rig = new IdeRig(CD);
    expect((await rig.packet([0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 28]))[8]).toBe(0x2a);
    await rig.packet([0x5a, 0, 0xea, 0, 0, 0, 0, 0, 28]);
    expect(rig.status).toBe(ERR);
    const configuration = await rig.packet([0x46, 0, 0, 0, 0, 0, 0, 0, 255]);
    expect([configuration[6], configuration[7]]).toEqual([0, 8]);
    expect(await rig.packet([0x51, 0, 0, 0, 0, 0, 0, 0, 255])).toHaveLength(34);
  });
});

test('a storm of random register accesses harms nothing but the drive', async () => {
  let seed = 12345;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (const kind of [undefined, CD] as const) {
    const rig = new IdeRig(kind);
    const guard = rig.guards();
    for (let i = 0; i < 60_000; i++) {
      const what = random(8);
      // these may wait for the iothread, which is this thread here
      if (what === 2 || what === 3 || what === 5) await rig.turn();
      switch (what) {
        case 0:
          rig.io.data.write(0, [1, 2, 4][random(3)], random(2 ** 24));
          break;
        case 1:
          rig.io.data.read(0, [1, 2, 4][random(3)]);
          break;
        case 2:
          rig.io.control.write(0, 1, random(50) === 0 ? random(256) : 0);
          break;
        case 3:
          rig.io.busMaster.write(random(8), 1, random(256));
          break;
        case 4:
          if (random(4) === 0) await rig.turn();
          break;
        case 5:
          rig.write(
            7,
            [0x20, 0x30, 0x25, 0x35, 0xc8, 0xca, 0xa0, 0xec, 0x06, 0xc4, 0xc5, random(256)][random(12)],
          );
          break;
        default:
          rig.write(1 + random(6), random(4) === 0 ? random(256) : random(3));
      }
    }
    await rig.turn();
    expect(rig.guards()).toEqual(guard);
    rig.io.control.write(0, 1, 4);
    rig.io.control.write(0, 1, 0);
    expect(rig.status).toBe(kind === CD ? 0 : READY);
  }
});
