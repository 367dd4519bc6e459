import { describe, expect, it } from 'vitest';
import { decode } from '../../src/cpu/decode/decoder.ts';
import { BASE_RIP, DECODE, Insn, OPERAND } from '../../src/cpu/decode/insn.ts';
import { NAMES } from '../../src/cpu/decode/table.ts';
import { randomCases, STRIDE } from './cases.ts';

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.split(' '), (b) => Number.parseInt(b, 16));
}

/** Decodes `hex`; the name or the DECODE code. */
function decoded(hex: string, codeSize = 2): { insn: Insn; length: number; name: string } {
  const insn = new Insn();
  const bytes = bytesOf(hex);
  const length = decode(bytes, 0, bytes.length, codeSize, insn);
  return { insn, length, name: length > 0 ? NAMES[insn.name] : '' };
}

describe('available bytes', () => {
  it('asks for more for every proper prefix of an instruction, and for no more than it has', () => {
    const bytes = randomCases(20_000, 5);
    const insn = new Insn();
    for (let at = 0; at + STRIDE < bytes.length; at += STRIDE) {
      const length = decode(bytes, at, STRIDE, 2, insn);
      if (length <= 0) continue;
      for (let limit = 0; limit < length; limit++) {
        if (decode(bytes, at, limit, 2, insn) !== DECODE.MORE) throw new Error(`limit ${limit} at ${at}`);
      }
      expect(decode(bytes, at, length, 2, insn)).toBe(length);
    }
  });
  it('an instruction may have 15 bytes', () => {
    expect(decoded(`${'66 '.repeat(14)}90`).length).toBe(15);
    expect(decoded(`${'2e '.repeat(9)}81 04 24 00 00 00`).length).toBe(DECODE.GP);
  });
  it('16 bytes are #GP, once 15 are available', () => {
    const bytes = bytesOf(`${'66 '.repeat(15)}90`);
    const insn = new Insn();
    expect(decode(bytes, 0, 16, 2, insn)).toBe(DECODE.GP);
    expect(decode(bytes, 0, 15, 2, insn)).toBe(DECODE.GP);
    expect(decode(bytes, 0, 14, 2, insn)).toBe(DECODE.MORE);
  });
});

describe('a reused record', () => {
  it('holds the same as a new one', () => {
    const bytes = randomCases(30_000, 11);
    const reused = new Insn();
    for (let at = 0; at + STRIDE < bytes.length; at += STRIDE) {
      const fresh = new Insn();
      const length = decode(bytes, at, STRIDE, 2, fresh);
      if (decode(bytes, at, STRIDE, 2, reused) !== length) throw new Error(`length at ${at}`);
      if (length <= 0) continue;
      for (const key of Object.keys(fresh) as (keyof Insn)[]) {
        const [a, b] = [fresh[key], reused[key]];
        if (typeof a === 'number') {
          if (a !== b) throw new Error(`${key} at ${at}: ${a} ${b}`);
        } else if (`${a.subarray(0, fresh.count)}` !== `${(b as Uint8Array).subarray(0, fresh.count)}`) {
          throw new Error(`${key} at ${at}`);
        }
      }
      expect(reused.kind[3] === OPERAND.NONE || reused.count === 4).toBe(true);
    }
  });
});

describe('prefixes', () => {
  it('REX counts only directly before the opcode', () => {
    expect(decoded('48 01 c8').insn.opSize).toBe(8);
    expect(decoded('48 66 01 c8').insn.opSize).toBe(2);
    expect(decoded('48 41 01 c8').insn.opSize).toBe(4);
  });
  it('REX.W wins over 66', () => expect(decoded('66 48 01 c8').insn.opSize).toBe(8));
  it('the last of F2 and F3 is the mandatory prefix, and both win over 66', () => {
    expect(decoded('f2 f3 0f 10 c1').name).toBe('movss');
    expect(decoded('f3 f2 0f 10 c1').name).toBe('movsd_xmm');
    expect(decoded('f3 66 0f 10 c1').name).toBe('movss');
  });
  it('ES, CS, SS, DS do not cancel FS in 64-bit code, and do in 32-bit code', () => {
    expect(decoded('64 2e 8b 00').insn.seg).toBe(4);
    expect(decoded('64 2e 8b 00', 1).insn.seg).toBe(1);
  });
  it('LOCK needs a lockable instruction with a memory destination', () => {
    expect(decoded('f0 01 08').insn.lock).toBe(1);
    expect(decoded('f0 01 c8').length).toBe(DECODE.UD);
    expect(decoded('f0 03 08').length).toBe(DECODE.UD);
    expect(decoded('f0 39 08').length).toBe(DECODE.UD);
    expect(decoded('f0 0f b1 0a').name).toBe('cmpxchg');
  });
  it('rep is reported for string instructions only', () => {
    expect(decoded('f3 a4').insn.rep).toBe(3);
    expect(decoded('f2 ae').insn.rep).toBe(2);
    expect(decoded('f3 c3').insn.rep).toBe(0);
  });
  it('90 with REX.B exchanges, with F3 it pauses', () => {
    expect(decoded('90').name).toBe('nop');
    expect(decoded('41 90').name).toBe('xchg');
    expect(decoded('f3 90').name).toBe('pause');
    expect(decoded('f3 41 90').name).toBe('pause');
  });
  it('lzcnt and tzcnt are bsr and bsf with F3', () => {
    expect(decoded('0f bd c1').name).toBe('bsr');
    expect(decoded('f3 0f bd c1').name).toBe('lzcnt');
    expect(decoded('66 f3 0f bc c1').insn).toMatchObject({ opSize: 2 });
  });
});

describe('operands', () => {
  it('AH to BH without REX, SPL to DIL with', () => {
    const high = decoded('88 e0').insn;
    expect([high.kind[1], high.reg[1]]).toEqual([OPERAND.REG8HIGH, 0]);
    const low = decoded('40 88 e0').insn;
    expect([low.kind[1], low.reg[1]]).toEqual([OPERAND.REG, 4]);
  });
  it('base, index, scale, displacement', () => {
    const { insn } = decoded('4a 8b 84 a5 10 00 00 80');
    expect(insn).toMatchObject({ base: 5, index: 12, scale: 2, disp: -0x7ffffff0, dispHi: -1, seg: 2 });
    expect(insn).toMatchObject({ memOperand: 1, addrSize: 8, opSize: 8 });
  });
  it('RSP cannot be an index, R12 can', () => {
    expect(decoded('8b 04 24').insn).toMatchObject({ base: 4, index: -1, seg: 2 });
    expect(decoded('42 8b 04 24').insn).toMatchObject({ base: 4, index: 12 });
  });
  it('RIP-relative in 64-bit code, absolute in 32-bit code', () => {
    expect(decoded('8b 05 04 00 00 00').insn).toMatchObject({ base: BASE_RIP, disp: 4 });
    expect(decoded('8b 05 04 00 00 00', 1).insn).toMatchObject({ base: -1, disp: 4 });
  });
  it('16-bit addressing', () => {
    expect(decoded('8b 42 fe', 0).insn).toMatchObject({ base: 5, index: 6, disp: -2, seg: 2, addrSize: 2 });
    expect(decoded('8b 07', 0).insn).toMatchObject({ base: 3, index: -1, seg: 3 });
    expect(decoded('8b 0e 34 12', 0).insn).toMatchObject({ base: -1, index: -1, disp: 0x1234 });
  });
  it('moffs has the address size', () => {
    const { insn, length } = decoded('48 a1 88 77 66 55 44 33 22 11');
    expect(length).toBe(10);
    expect(insn).toMatchObject({ disp: 0x55667788, dispHi: 0x11223344, base: -1 });
    expect(decoded('67 a1 88 77 66 f5').insn).toMatchObject({ dispHi: 0 });
  });
  it('immediates are sign-extended to 64 bits, except for MOV r64, counts, ports and vectors', () => {
    expect(decoded('48 05 00 00 00 80').insn).toMatchObject({ immLo: -0x80000000, immHi: -1 });
    expect(decoded('6a ff').insn).toMatchObject({ immLo: -1, immHi: -1, opSize: 8 });
    expect(decoded('48 b8 01 00 00 00 02 00 00 80').insn).toMatchObject({ immLo: 1, immHi: -0x7ffffffe });
    expect(decoded('cd 80').insn).toMatchObject({ immLo: 0x80, immHi: 0 });
    expect(decoded('c2 00 80').insn).toMatchObject({ immLo: 0x8000, immHi: 0 });
    expect(decoded('48 c1 e0 ff').insn).toMatchObject({ immLo: 0xff, immHi: 0 });
  });
  it('two immediates: enter and far pointers', () => {
    expect(decoded('c8 34 12 05').insn).toMatchObject({ immLo: 0x1234, imm2: 5, opSize: 8 });
    const far = decoded('ea 78 56 34 12 08 00', 1).insn;
    expect(far).toMatchObject({ immLo: 0x12345678, imm2: 8, count: 1 });
    expect(far.kind[0]).toBe(OPERAND.FAR);
  });
  it('implicit AL, eAX, CL, DX and 1 are operands', () => {
    const shift = decoded('d3 e0').insn;
    expect([shift.kind[1], shift.reg[1], shift.size[1]]).toEqual([OPERAND.REG, 1, 1]);
    const one = decoded('d1 e0').insn;
    expect([one.kind[1], one.immLo]).toEqual([OPERAND.IMM, 1]);
    const port = decoded('ec').insn;
    expect([port.reg[0], port.reg[1], port.size[1], port.opSize]).toEqual([0, 2, 2, 1]);
  });
  it('near branches have 64 bits in 64-bit code, whatever the prefix', () => {
    expect(decoded('66 e8 01 00 00 80').insn).toMatchObject({ opSize: 8, rel: -0x7fffffff });
    expect(decoded('66 e8 01 80', 1).insn).toMatchObject({ opSize: 2, rel: -0x7fff });
  });
  it('push and pop default to 64 bits in 64-bit code', () => {
    expect(decoded('50').insn.opSize).toBe(8);
    expect(decoded('66 50').insn.opSize).toBe(2);
    expect(decoded('41 57').insn.reg[0]).toBe(15);
  });
  it('conditions', () => {
    expect(decoded('0f 95 c0').insn).toMatchObject({ cond: 5, opSize: 1 });
    expect(decoded('7f 00').insn).toMatchObject({ cond: 15 });
    expect(decoded('01 c8').insn.cond).toBe(0);
  });
  it('control, debug and segment registers that do not exist are #UD, as is loading CS', () => {
    expect(decoded('0f 20 c0').name).toBe('mov_from_cr');
    expect(decoded('44 0f 20 c0').insn.reg[1]).toBe(8);
    expect(decoded('0f 20 c8').length).toBe(DECODE.UD);
    expect(decoded('44 0f 21 c0').length).toBe(DECODE.UD);
    expect(decoded('8e c8').length).toBe(DECODE.UD);
    expect(decoded('8c c8').name).toBe('mov_from_sreg');
    expect(decoded('8e f0').length).toBe(DECODE.UD);
  });
  it('moves of control registers have the machine width and no memory form', () => {
    const { insn, length } = decoded('66 0f 22 1d');
    expect([length, insn.opSize, insn.kind[1], insn.reg[1]]).toEqual([4, 8, OPERAND.REG, 5]);
    expect(decoded('66 0f 22 1d', 1).insn.opSize).toBe(4);
  });
});

describe('VEX', () => {
  it('is LES or LDS in 32-bit code when a memory operand follows', () => {
    expect(decoded('c5 00', 1).name).toBe('lds');
    expect(decoded('c5 f8 77', 1).name).toBe('vzeroupper');
  });
  it('after REX, 66, F2, F3 or LOCK is #UD', () => {
    for (const prefix of ['48', '66', 'f2', 'f3', 'f0'])
      expect(decoded(`${prefix} c5 f8 77`).length).toBe(DECODE.UD);
  });
  it('a register in vvvv where there is no operand for it is #UD', () => {
    expect(decoded('c5 f8 28 c1').name).toBe('vmovaps');
    expect(decoded('c5 f0 28 c1').length).toBe(DECODE.UD);
  });
  it('three operands', () => {
    const { insn, name } = decoded('c5 ec 58 cb');
    expect([name, ...insn.reg.subarray(0, 3), insn.size[0]]).toEqual(['vaddps', 1, 2, 3, 32]);
  });
  it('a gather has a vector index, and three different registers', () => {
    expect(decoded('c4 e2 6d 90 0c a0').insn).toMatchObject({ index: 4, vsib: 32, base: 0, scale: 2 });
    expect(decoded('c4 e2 6d 90 14 a0').length).toBe(DECODE.UD);
  });
});
