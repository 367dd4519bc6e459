import { describe, expect, it } from 'vitest';
import { decode } from '../../src/cpu/decode/decoder.ts';
import { formatInsn } from '../../src/cpu/decode/format.ts';
import { Insn } from '../../src/cpu/decode/insn.ts';
import { randomCases, STRIDE } from './cases.ts';

function text(hex: string, codeSize = 2, ip = 0x1000n): string {
  const bytes = Uint8Array.from(hex.split(' '), (b) => Number.parseInt(b, 16));
  const insn = new Insn();
  const length = decode(bytes, 0, bytes.length, codeSize, insn);
  if (length <= 0) throw new Error(`${hex}: ${length}`);
  return formatInsn(insn, ip);
}

/** As objdump -M intel prints them (branch targets with 0x). */
const EXPECTED: readonly (readonly [string, string])[] = [
  ['48 89 e5', 'mov    rbp,rsp'],
  ['8b 44 88 10', 'mov    eax,DWORD PTR [rax+rcx*4+0x10]'],
  ['64 48 8b 04 25 28 00 00 00', 'mov    rax,QWORD PTR fs:0x28'],
  ['8b 04 25 00 10 00 00', 'mov    eax,DWORD PTR ds:0x1000'],
  ['48 8d 05 10 00 00 00', 'lea    rax,[rip+0x10]        # 0x1017'],
  ['48 83 c0 ff', 'add    rax,0xffffffffffffffff'],
  ['66 83 c0 ff', 'add    ax,0xffff'],
  ['88 e0', 'mov    al,ah'],
  ['40 88 e0', 'mov    al,spl'],
  ['eb fe', 'jmp    0x1000'],
  ['0f 84 00 01 00 00', 'je     0x1106'],
  ['f3 a4', 'rep movs BYTE PTR es:[rdi],BYTE PTR ds:[rsi]'],
  ['f2 ae', 'repnz scas al,BYTE PTR es:[rdi]'],
  ['f0 48 ff 05 00 00 00 00', 'lock inc QWORD PTR [rip+0x0]        # 0x1008'],
  ['48 98', 'cdqe'],
  ['48 b8 88 77 66 55 44 33 22 11', 'movabs rax,0x1122334455667788'],
  ['d8 c1', 'fadd   st,st(1)'],
  ['de c1', 'faddp  st(1),st'],
  ['d9 c9', 'fxch   st(1)'],
  ['db 28', 'fld    TBYTE PTR [rax]'],
  ['0f 6f 08', 'movq   mm1,QWORD PTR [rax]'],
  ['66 0f 6f c1', 'movdqa xmm0,xmm1'],
  ['f2 48 0f 2a c0', 'cvtsi2sd xmm0,rax'],
  ['c5 fc 58 c1', 'vaddps ymm0,ymm0,ymm1'],
  ['c4 e2 6d 90 0c a0', 'vpgatherdd ymm1,DWORD PTR [rax+ymm4*4],ymm2'],
  ['f3 0f 1e fa', 'endbr64'],
  ['0f 01 f8', 'swapgs'],
  ['0f 22 d8', 'mov    cr3,rax'],
  ['8e d8', 'mov    ds,eax'],
  ['48 cf', 'iretq'],
  ['0f 1f 40 01', 'nop    DWORD PTR [rax+0x1]'],
  ['48 0f c7 08', 'cmpxchg16b XMMWORD PTR [rax]'],
  ['0f a2', 'cpuid'],
  ['f7 e9', 'imul   ecx'],
  ['d1 e0', 'shl    eax,1'],
  ['c8 10 00 01', 'enter  0x10,0x1'],
];

describe('disassembly', () => {
  for (const [hex, expected] of EXPECTED) it(expected, () => expect(text(hex)).toBe(expected));
  it('16-bit addresses', () => expect(text('8b 42 fe', 0)).toBe('mov    ax,WORD PTR [bp+si-0x2]'));
  it('far pointers', () => expect(text('ea 78 56 34 12 08 00', 1)).toBe('jmp    0x8:0x12345678'));
  it('prints whatever decodes, without a hole in it', () => {
    const bytes = randomCases(20_000, 21);
    const insn = new Insn();
    for (let codeSize = 0; codeSize < 3; codeSize++) {
      for (let at = 0; at + STRIDE < bytes.length; at += STRIDE) {
        if (decode(bytes, at, STRIDE, codeSize, insn) <= 0) continue;
        const line = formatInsn(insn, 0n);
        if (/undefined|NaN|,,|,$|\[\]| ,/.test(line)) throw new Error(line);
      }
    }
  });
});
