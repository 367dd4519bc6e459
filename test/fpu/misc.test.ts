import { describe, expect, it } from 'vitest';
import { FLAG, readEflags, writeEflags } from '../../src/cpu/flags.ts';
import { TestMachine } from './machine.ts';

const machine = new TestMachine();
const { env } = machine;
const GP = 13;

function flags(): number {
  return readEflags(env);
}

describe('wide compare-exchange', () => {
  it('CMPXCHG8B stores when equal and loads when not, with and without LOCK', () => {
    for (const lock of [[], [0xf0]]) {
      machine.ramView.setBigUint64(0x1000, 0x1122334455667788n, true);
      env.regs[7] = 0x1000n;
      env.regs[0] = 0xffffffff55667788n;
      env.regs[2] = 0xffffffff11223344n;
      env.regs[3] = 0xaaaaaaaa01020304n;
      env.regs[1] = 0xbbbbbbbb05060708n;
      writeEflags(env, 2 | FLAG.CF | FLAG.SF);
      expect(machine.execute([...lock, 0x0f, 0xc7, 0x0f]).vector).toBe(-1);
      expect(machine.ramView.getBigUint64(0x1000, true)).toBe(0x0506070801020304n);
      expect(flags()).toBe(2 | FLAG.CF | FLAG.SF | FLAG.ZF);
      expect(env.regs[0]).toBe(0xffffffff55667788n);
      machine.execute([...lock, 0x0f, 0xc7, 0x0f]);
      expect(machine.ramView.getBigUint64(0x1000, true)).toBe(0x0506070801020304n);
      expect(flags()).toBe(2 | FLAG.CF | FLAG.SF);
      expect(env.regs[0]).toBe(0x01020304n);
      expect(env.regs[2]).toBe(0x05060708n);
    }
  });

  it('CMPXCHG16B', () => {
    for (const lock of [[], [0xf0]]) {
      for (const page of [0x1010, 0x1ff0]) {
        machine.ramView.setBigUint64(page, 1n, true);
        machine.ramView.setBigUint64(page + 8, 2n, true);
        env.regs[7] = BigInt(page);
        env.regs[0] = 1n;
        env.regs[2] = 2n;
        env.regs[3] = 3n;
        env.regs[1] = 4n;
        writeEflags(env, 2 | FLAG.OF);
        expect(machine.execute([...lock, 0x48, 0x0f, 0xc7, 0x0f]).vector).toBe(-1);
        expect(machine.ramView.getBigUint64(page, true)).toBe(3n);
        expect(machine.ramView.getBigUint64(page + 8, true)).toBe(4n);
        expect(flags()).toBe(2 | FLAG.OF | FLAG.ZF);
        machine.execute([...lock, 0x48, 0x0f, 0xc7, 0x0f]);
        expect(flags()).toBe(2 | FLAG.OF);
        expect([env.regs[0], env.regs[2]]).toEqual([3n, 4n]);
      }
      env.regs[7] = 0x1008n;
      expect(machine.execute([...lock, 0x48, 0x0f, 0xc7, 0x0f])).toMatchObject({ vector: GP, error: 0 });
    }
  });
});

describe('table look-up, random numbers, stores and fences', () => {
  it('XLAT with 64-, 32-bit and segment-based addresses', () => {
    machine.ram[0x1234 + 0x56] = 0x99;
    env.regs[3] = 0x1234n;
    env.regs[0] = 0x1156n;
    machine.execute([0xd7]);
    expect(env.regs[0]).toBe(0x1199n);
    env.regs[3] = 0xffffffff00001234n;
    env.regs[0] = 0x1156n;
    machine.execute([0x67, 0xd7]);
    expect(env.regs[0]).toBe(0x1199n);
    env.segs[4].base = 0x200n;
    env.regs[3] = 0x1034n;
    env.regs[0] = 0x56n;
    machine.execute([0x64, 0xd7]);
    expect(env.regs[0]).toBe(0x99n);
    env.segs[4].base = 0n;
  });

  it('RDRAND and RDSEED of each size set CF', () => {
    for (const modrm of [0xf0, 0xf8]) {
      writeEflags(env, 2 | FLAG.ZF);
      env.regs[0] = ~0n;
      machine.execute([0x0f, 0xc7, modrm]);
      expect(env.regs[0]).toBe(0x12345678n);
      expect(flags()).toBe(2 | FLAG.CF);
      env.regs[0] = BigInt.asUintN(64, ~0n);
      machine.execute([0x66, 0x0f, 0xc7, modrm]);
      expect(env.regs[0]).toBe(0xffffffffffff5678n);
      machine.execute([0x48, 0x0f, 0xc7, modrm]);
      expect(env.regs[0]).toBe(0x1234567812345678n);
    }
  });

  it('MOVNTI, fences and cache-line instructions', () => {
    env.regs[0] = 0x0102030405060708n;
    env.regs[7] = 0x1100n;
    machine.ramView.setBigUint64(0x1100, ~0n, true);
    machine.execute([0x0f, 0xc3, 0x07]);
    expect(machine.ramView.getBigUint64(0x1100, true)).toBe(0xffffffff05060708n);
    machine.execute([0x48, 0x0f, 0xc3, 0x07]);
    expect(machine.ramView.getBigUint64(0x1100, true)).toBe(0x0102030405060708n);
    const plain = [
      [0x0f, 0xae, 0xe8],
      [0x0f, 0xae, 0xf0],
      [0x0f, 0xae, 0xf8],
      [0x0f, 0xae, 0x3f],
      [0x66, 0x0f, 0xae, 0x3f],
      [0x66, 0x0f, 0xae, 0x37],
    ];
    for (const bytes of plain) expect(machine.execute(bytes).vector).toBe(-1);
  });
});

describe('decimal adjustment', () => {
  /** SDM vol. 2, the operations as written there; gives AX and CF, AF. */
  function reference(op: number, ax: number, cf: boolean, af: boolean): [number, boolean, boolean] {
    let al = ax & 255;
    const old = al;
    const low = (al & 15) > 9 || af;
    switch (op) {
      case 0x27: {
        if (low) al += 6;
        const high = old > 0x99 || cf;
        if (high) al += 0x60;
        return [(ax & 0xff00) | (al & 255), high, low];
      }
      case 0x2f: {
        let carry = false;
        if (low) {
          carry = cf || al < 6;
          al -= 6;
        }
        if (old > 0x99 || cf) {
          al -= 0x60;
          carry = true;
        }
        return [(ax & 0xff00) | (al & 255), carry, low];
      }
      default: {
        const by = op === 0x37 ? 0x106 : -0x106;
        return [(low ? ax + by : ax) & 0xff0f, low, low];
      }
    }
  }

  it('all inputs', () => {
    for (const op of [0x27, 0x2f, 0x37, 0x3f]) {
      for (let al = 0; al < 256; al++) {
        for (let f = 0; f < 4; f++) {
          const ax = 0x1200 | al;
          env.codeSize = 1;
          env.regs[0] = BigInt(ax);
          writeEflags(env, 2 | (f & 1 ? FLAG.CF : 0) | (f & 2 ? FLAG.AF : 0));
          machine.execute([op], 1);
          const [value, cf, af] = reference(op, ax, (f & 1) !== 0, (f & 2) !== 0);
          expect(Number(env.regs[0])).toBe(value);
          expect((flags() & FLAG.CF) !== 0).toBe(cf);
          expect((flags() & FLAG.AF) !== 0).toBe(af);
          if (op < 0x30) expect((flags() & FLAG.ZF) !== 0).toBe((value & 255) === 0);
        }
      }
    }
    env.codeSize = 2;
  });
});
