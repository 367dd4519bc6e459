import { describe, expect, test } from 'vitest';
import {
  invalidTag,
  JUMP,
  JUMP_ENTRIES,
  MMU,
  tlbSetOffset,
  TLB_ENTRIES,
  TLB_SET,
  WRITE_CLASSES,
} from '../../src/cpu/env.ts';
import { FLAG } from '../../src/cpu/flags.ts';
import { dropWriteEntriesOf, hasWriteEntryFor } from '../../src/cpu/sys/tlb.ts';
import { ACCESS, PF } from '../../src/cpu/sys/page-walk.ts';
import { CR0, CR4, EFER, VEC } from '../../src/cpu/sys/words.ts';
import {
  type Bench,
  host,
  longMode,
  makeBench,
  PD,
  PDPT,
  peek32,
  peek64,
  PML4,
  poke32,
  poke64,
  PT,
  protectedMode,
  raised,
} from './bench-machine.ts';

const NX = 1n << 63n;

/** Walks; gives the physical address or the #PF error code as a string. */
function walk(b: Bench, linear: bigint, access: number, index: number): number | string {
  const lo = Number(linear & 0xffffffffn);
  const hi = Number(linear >> 32n);
  const walker = b.cpu.mmu.pageWalk;
  if (!walker.walk(lo, hi, access, index)) return `#PF(${walker.error})`;
  return walker.paHi * 2 ** 32 + walker.paLo;
}

/** Long mode where linear 0x40000000… is mapped by a page table at PT with entry `pte` for page 0. */
function withPte(pte: bigint, upper = 7n): Bench {
  const b = makeBench();
  longMode(b, 0);
  poke64(b, PDPT + 8, BigInt(0x104000) | upper);
  poke64(b, 0x104000, BigInt(PT) | upper);
  poke64(b, PT, pte);
  return b;
}
const LINEAR = 0x40000123n;

/** The rights of a 4-level walk, straight from SDM 3A 4.6.1. */
function expected(
  pte: bigint,
  upper: bigint,
  access: number,
  index: number,
  wp: boolean,
  smep: boolean,
  smap: boolean,
): string {
  const user = index === MMU.USER;
  let bits = (access === ACCESS.WRITE ? PF.W : 0) | (user ? PF.U : 0) | (access === ACCESS.FETCH ? PF.I : 0);
  if ((pte & 1n) === 0n) return `#PF(${bits})`;
  bits |= PF.P;
  const u = (pte & upper & 4n) !== 0n;
  const w = (pte & upper & 2n) !== 0n;
  const x = (pte & NX) === 0n;
  let ok: boolean;
  if (user) ok = u && (access === ACCESS.READ || (access === ACCESS.WRITE ? w : x));
  else if (access === ACCESS.FETCH) ok = x && !(u && smep);
  else if (u && smap && index !== MMU.KERNEL_AC) ok = false;
  else ok = access === ACCESS.READ || w || !wp;
  return ok ? 'ok' : `#PF(${bits})`;
}

describe('4-level paging', () => {
  test('rights of every combination agree with the manual', () => {
    for (const upper of [3n, 5n, 7n]) {
      for (let low = 0n; low < 8n; low++) {
        for (const nx of [0n, NX]) {
          const pte = 0x200000n | low | nx;
          for (const wp of [false, true]) {
            for (const smep of [false, true]) {
              for (const smap of [false, true]) {
                for (const index of [MMU.KERNEL, MMU.USER, MMU.KERNEL_AC]) {
                  if (index === MMU.KERNEL_AC && !smap) continue;
                  for (const access of [ACCESS.READ, ACCESS.WRITE, ACCESS.FETCH]) {
                    const b = shared;
                    poke64(b, PDPT + 8, 0x104000n | upper);
                    poke64(b, 0x104000, BigInt(PT) | upper);
                    poke64(b, PT, pte);
                    b.cpu.env.cr0 = BigInt((CR0.PE | CR0.PG | (wp ? CR0.WP : 0)) >>> 0);
                    b.cpu.env.cr4 = BigInt(CR4.PAE | (smep ? CR4.SMEP : 0) | (smap ? CR4.SMAP : 0));
                    const got = walk(b, LINEAR, access, index);
                    const name = `pte ${pte.toString(16)} upper ${upper} wp ${wp} smep ${smep} smap ${smap} index ${index} access ${access}`;
                    expect(got === 0x200123 ? 'ok' : got, name).toBe(
                      expected(pte, upper, access, index, wp, smep, smap),
                    );
                  }
                }
              }
            }
          }
        }
      }
    }
  });
  const shared = withPte(0n);

  test('sets accessed bits of all levels, and dirty only for a write', () => {
    const b = withPte(0x200007n);
    walk(b, LINEAR, ACCESS.READ, MMU.USER);
    expect(peek64(b, PT)).toBe(0x200027n);
    expect(peek64(b, 0x104000)).toBe(BigInt(PT | 0x27));
    expect(peek64(b, PDPT + 8)).toBe(0x104027n);
    expect(peek64(b, PML4)).toBe(BigInt(PDPT | 0x27));
    walk(b, LINEAR, ACCESS.WRITE, MMU.USER);
    expect(peek64(b, PT)).toBe(0x200067n);
    expect(peek64(b, 0x104000)).toBe(BigInt(PT | 0x27));
  });

  test('a refused access leaves the last entry alone', () => {
    const b = withPte(0x200005n);
    expect(walk(b, LINEAR, ACCESS.WRITE, MMU.USER)).toBe('#PF(7)');
    expect(peek64(b, PT)).toBe(0x200005n);
  });

  test.each([
    ['bit 40 of a page-table entry', PT, (1n << 40n) | 0x200007n],
    ['bit 51 of a directory entry', 0x104000, (1n << 51n) | BigInt(PT | 7)],
    ['PS in a PML4 entry', PML4, BigInt(PDPT | 0x87)],
    ['bit 13 of a 2 MiB page', 0x104000, 0x202087n],
    ['bit 20 of a 2 MiB page', 0x104000, 0x300087n],
    ['bit 29 of a 1 GiB page', PDPT + 8, 0x20000087n],
  ])('reserved bit: %s', (_name, at, value) => {
    const b = withPte(0x200007n);
    poke64(b, at, value);
    expect(walk(b, LINEAR, ACCESS.READ, MMU.USER)).toBe(`#PF(${PF.P | PF.U | PF.RSVD})`);
  });

  test('NX is a reserved bit while EFER.NXE is off', () => {
    const b = withPte(0x200007n | NX);
    b.cpu.env.efer &= ~BigInt(EFER.NXE);
    expect(walk(b, LINEAR, ACCESS.READ, MMU.KERNEL)).toBe('#PF(9)');
    // and an instruction fetch is then reported as a read
    expect(walk(b, LINEAR, ACCESS.FETCH, MMU.USER)).toBe('#PF(13)');
  });

  test('2 MiB and 1 GiB pages', () => {
    const b = withPte(0n);
    poke64(b, 0x104000 + 8, 0x200087n);
    expect(walk(b, 0x40312345n, ACCESS.WRITE, MMU.USER)).toBe(0x312345);
    expect(peek64(b, 0x104000 + 8)).toBe(0x2000e7n);
    poke64(b, PDPT + 8, 0x187n);
    expect(walk(b, 0x40012345n, ACCESS.READ, MMU.USER)).toBe(0x12345);
    expect(b.cpu.mmu.pageWalk.global).toBe(true);
  });

  test('1 GiB pages are reserved bits on a model without them', () => {
    const b = makeBench('qemu64');
    longMode(b, 0);
    poke64(b, PDPT + 8, 0x87n);
    expect(walk(b, 0x40000000n, ACCESS.READ, MMU.KERNEL)).toBe('#PF(9)');
  });

  test('an entry whose upper half looks like a NaN is read exactly', () => {
    const b = withPte(0x200007n | (0x7ffn << 52n));
    expect(walk(b, LINEAR, ACCESS.READ, MMU.USER)).toBe(0x200123);
  });

  test('a page-table entry changed meanwhile is walked again', () => {
    const b = withPte(0x200007n);
    const real = Atomics.compareExchange;
    let once = true;
    (Atomics as { compareExchange: unknown }).compareExchange = ((
      a: Int32Array,
      i: number,
      e: number,
      v: number,
    ) => {
      if (once && i === host(PT) >>> 2) {
        once = false;
        poke64(b, PT, 0x201007n);
      }
      return real(a, i, e, v);
    }) as unknown;
    try {
      expect(walk(b, LINEAR, ACCESS.READ, MMU.USER)).toBe(0x201123);
    } finally {
      Atomics.compareExchange = real;
    }
    expect(peek64(b, PT)).toBe(0x201027n);
  });
});

describe('legacy paging', () => {
  function paging32(cr4: number): Bench {
    const b = makeBench();
    protectedMode(b, 0);
    b.cpu.env.cr3 = BigInt(PML4);
    b.cpu.env.cr4 = BigInt(cr4);
    b.cpu.env.cr0 = BigInt((CR0.PE | CR0.PG | CR0.WP) >>> 0);
    return b;
  }

  test('two levels', () => {
    const b = paging32(0);
    poke32(b, PML4 + 4 * 5, PT | 7);
    poke32(b, PT + 4 * 3, 0x123007);
    expect(walk(b, 0x01403abcn, ACCESS.WRITE, MMU.USER)).toBe(0x123abc);
    expect(peek32(b, PML4 + 4 * 5)).toBe(PT | 0x27);
    expect(peek32(b, PT + 4 * 3)).toBe(0x123067);
    expect(walk(b, 0x01404000n, ACCESS.READ, MMU.KERNEL)).toBe('#PF(0)');
  });

  test('without PSE the PS bit is ignored', () => {
    const b = paging32(0);
    poke32(b, PML4, PT | 0x87);
    poke32(b, PT, 0x123007);
    expect(walk(b, 0x10n, ACCESS.READ, MMU.USER)).toBe(0x123010);
  });

  test('4 MiB pages with 36-bit addresses', () => {
    const b = paging32(CR4.PSE);
    poke32(b, PML4 + 4, 0x00c00087 | (0x1a << 13));
    expect(walk(b, 0x00712345n, ACCESS.READ, MMU.USER)).toBe(0x1a_00f1_2345);
    poke32(b, PML4 + 4, 0x00c00087 | (1 << 21));
    expect(walk(b, 0x00712345n, ACCESS.READ, MMU.USER)).toBe('#PF(13)');
  });

  test('PAE uses the PDPTE registers', () => {
    const b = paging32(CR4.PAE);
    poke64(b, PD + 8, BigInt(PT | 7));
    poke64(b, PT + 8 * 2, 0x123007n);
    expect(walk(b, 0xc0202010n, ACCESS.READ, MMU.USER)).toBe('#PF(4)');
    b.cpu.env.pdpte[3] = BigInt(PD | 1);
    expect(walk(b, 0xc0202010n, ACCESS.READ, MMU.USER)).toBe(0x123010);
    poke64(b, PT + 8 * 2, 0x123007n | (1n << 52n));
    expect(walk(b, 0xc0202010n, ACCESS.READ, MMU.USER)).toBe('#PF(13)');
  });
});

function tag(b: Bench, set: number, part: number, page: number): number {
  const at = (b.cpu.base + tlbSetOffset(set) + part) >>> 2;
  return b.cpu.u32[at + (page & (TLB_ENTRIES - 1)) * 4];
}
/** Of an entry for a page's data. */
function tagOf(page: number): number {
  return (page - 1) >>> 0;
}

describe('TLB and slow paths', () => {
  function slow(b: Bench, linear: bigint): void {
    b.cpu.env.slowAddr = linear;
  }

  test('a load fills the read array only, a store also the write array', () => {
    const b = withPte(0x200007n);
    poke32(b, 0x200120, 0xdeadbeef);
    slow(b, 0x40000120n);
    expect(b.cpu.mmu.slowLoad(4)).toBe(host(0x200120));
    expect(tag(b, MMU.KERNEL, TLB_SET.READ, 0)).toBe(tagOf(0x40000000));
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(invalidTag(0));
    b.cpu.env.slowValue = 0x1234n;
    expect(b.cpu.mmu.slowStore(4)).toBe(0);
    expect(peek32(b, 0x200120)).toBe(0x1234);
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(tagOf(0x40000000));
    const at = (b.cpu.base + tlbSetOffset(MMU.KERNEL) + TLB_SET.WRITE) >>> 2;
    expect(b.cpu.u32[at + 2]).toBe((host(0x200000) - 0x40000000) >>> 0);
  });

  test('a lost code entry is counted in its set, and what is known of a jump can be forgotten', () => {
    const b = withPte(0x200007n);
    const sets = [MMU.KERNEL, MMU.USER, MMU.KERNEL_AC];
    const word = (set: number, offset: number): number => (b.cpu.base + tlbSetOffset(set) + offset) >>> 2;
    const losses = (): number[] => sets.map((set) => b.cpu.u32[word(set, TLB_SET.LOSSES)]);
    const { mmu } = b.cpu;
    const lost = (what: () => void): number[] => {
      const before = losses();
      what();
      return losses().map((n, i) => n - before[i]);
    };
    expect(losses().every((n) => n > 0)).toBe(true);
    expect(lost(() => mmu.resolve(0x40000000, 0, ACCESS.FETCH, MMU.USER))).toEqual([0, 0, 0]);
    expect(lost(() => mmu.resolve(0x40000000, 0, ACCESS.READ, MMU.KERNEL))).toEqual([0, 0, 0]);
    // only the user's set has code, and that is not global
    expect(lost(() => mmu.tlb.flushNonGlobal())).toEqual([0, 1, 0]);
    expect(lost(() => mmu.tlb.flushNonGlobal())).toEqual([0, 0, 0]);
    mmu.resolve(0x40000000, 0, ACCESS.FETCH, MMU.KERNEL);
    expect(lost(() => mmu.tlb.flushPage(0x40001000, 0))).toEqual([0, 0, 0]);
    expect(lost(() => mmu.tlb.flushPage(0x40000000, 0))).toEqual([1, 0, 0]);
    expect(lost(() => mmu.tlb.flushAll())).toEqual([1, 1, 1]);

    const entry = word(MMU.USER, TLB_SET.JUMPS) + (((0x40000123 ^ 0x40000) & (JUMP_ENTRIES - 1)) << 3);
    b.cpu.u32.set([0x40000123, 0, 7, 0], entry);
    mmu.tlb.forgetJump(0x40000124, 0, MMU.USER);
    mmu.tlb.forgetJump(0x40000123, 1, MMU.USER);
    mmu.tlb.forgetJump(0x40000123, 0, MMU.KERNEL);
    expect(b.cpu.u32[entry + JUMP.LOSSES / 4]).toBe(7);
    mmu.tlb.forgetJump(0x40000123, 0, MMU.USER);
    expect(b.cpu.u32[entry + JUMP.LOSSES / 4]).toBe(0);
  });

  test('a #PF sets CR2 and the error code', () => {
    const b = withPte(0x200005n);
    b.cpu.env.cpl = 3;
    b.cpu.updateMode();
    slow(b, 0x40000ffcn);
    expect(b.cpu.mmu.slowStore(4)).toBe(-1);
    expect(raised(b)).toEqual([VEC.PF, 7]);
    expect(b.cpu.env.cr2).toBe(0x40000ffcn);
  });

  test('an access across pages faults with the second page, before anything is written', () => {
    const b = withPte(0x200007n);
    slow(b, 0x40000ffen);
    b.cpu.env.slowValue = 0x11223344n;
    expect(b.cpu.mmu.slowStore(4)).toBe(-1);
    expect(raised(b)).toEqual([VEC.PF, 2]);
    expect(b.cpu.env.cr2).toBe(0x40001000n);
    expect(peek32(b, 0x200ffc)).toBe(0);
    poke64(b, PT + 8, 0x210007n);
    expect(b.cpu.mmu.slowStore(4)).toBe(0);
    expect(peek32(b, 0x200ffc)).toBe(0x33440000);
    expect(peek32(b, 0x210000)).toBe(0x1122);
    const at = b.cpu.mmu.slowLoad(4);
    expect(b.cpu.u32[at >>> 2]).toBe(0x11223344);
  });

  test('a non-canonical address is #GP(0)', () => {
    const b = withPte(0x200007n);
    slow(b, 0x0000_8000_0000_0000n);
    expect(b.cpu.mmu.slowLoad(1)).toBe(-1);
    expect(raised(b)).toEqual([VEC.GP, 0]);
    slow(b, 0x0000_7fff_ffff_fffcn);
    poke64(b, PML4 + 8 * 255, BigInt(PDPT | 7));
    poke64(b, PDPT + 8 * 511, BigInt(0x104000 | 7));
    poke64(b, 0x104000 + 8 * 511, BigInt(PT | 7));
    poke64(b, PT + 8 * 511, 0x200007n);
    expect(b.cpu.mmu.slowLoad(4)).toBe(host(0x200ffc));
    expect(b.cpu.mmu.slowLoad(8)).toBe(-1);
    expect(raised(b)).toEqual([VEC.GP, 0]);
  });

  test('device memory is split into accesses of at most 4 bytes', () => {
    const b = withPte(0xc0000007n);
    slow(b, 0x40000010n);
    b.device.bytes.set([1, 2, 3, 4, 5, 6, 7, 8], 0x10);
    const at = b.cpu.mmu.slowLoad(8);
    expect(b.cpu.u32[at >>> 2]).toBe(0x04030201);
    expect(b.cpu.u32[(at >>> 2) + 1]).toBe(0x08070605);
    b.cpu.env.slowValue = 0x1122334455667788n;
    b.cpu.env.slowValueHigh = 0x99n;
    expect(b.cpu.mmu.slowStore(16)).toBe(0);
    expect(b.device.log).toEqual([
      'r4 0:c0000010',
      'r4 0:c0000014',
      'w4 0:c0000010=55667788',
      'w4 0:c0000014=11223344',
      'w4 0:c0000018=99',
      'w4 0:c000001c=0',
    ]);
    expect(tag(b, MMU.KERNEL, TLB_SET.READ, 0)).toBe(invalidTag(0));
  });

  test('a ROM is read from memory, and writes to it have no effect', () => {
    const b = withPte(0xc0007n);
    b.mem.setLowPage(0xc0, host(0x300000), false);
    poke32(b, 0x300000, 77);
    slow(b, 0x40000000n);
    const at = b.cpu.mmu.slowLoad(4);
    expect(b.cpu.u32[at >>> 2]).toBe(77);
    b.cpu.env.slowValue = 5n;
    expect(b.cpu.mmu.slowStore(4)).toBe(0);
    expect(peek32(b, 0x300000)).toBe(77);
    expect(b.device.log).toEqual([]);
    expect(b.cpu.mmu.rmwBegin(4)).toBe(b.cpu.scratchArea);
    expect(b.cpu.u32[b.cpu.scratchArea >>> 2]).toBe(77);
    expect(b.cpu.mmu.rmwCommit(4)).toBe(0);
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(invalidTag(0));
  });

  test('a code page is never in the write array, and stores to it are reported', () => {
    const b = withPte(0x200007n);
    b.mem.codeMap[host(0x200000) >>> 12] = 1;
    slow(b, 0x40000010n);
    b.cpu.env.slowValue = 9n;
    expect(b.cpu.mmu.slowStore(2)).toBe(0);
    expect(b.written).toEqual([[0x200010, 2]]);
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(invalidTag(0));
    const at = b.cpu.mmu.rmwBegin(4);
    expect(at).toBe(b.cpu.scratchArea);
    b.cpu.u32[at >>> 2] += 1;
    expect(b.cpu.mmu.rmwCommit(4)).toBe(0);
    expect(peek32(b, 0x200010)).toBe(10);
    expect(b.written[1]).toEqual([0x200010, 4]);
  });

  test.each([1, 2, 4, 8])(
    'a lost race for an operand of %i bytes on a code page runs the instruction again',
    (size) => {
      const b = withPte(0x200007n);
      b.mem.codeMap[host(0x200000) >>> 12] = 1;
      slow(b, 0x40000010n);
      const at = b.cpu.mmu.rmwBegin(size);
      b.cpu.u8[at] = 1;
      b.cpu.u8[host(0x200010)] = 50;
      expect(b.cpu.mmu.rmwCommit(size)).toBe(-1);
      expect(b.cpu.env.excVector).toBe(VEC.RETRY);
      expect(b.cpu.u8[host(0x200010)]).toBe(50);
    },
  );

  test('read-modify-write of plain memory works in place', () => {
    const b = withPte(0x200007n);
    slow(b, 0x40000010n);
    expect(b.cpu.mmu.rmwBegin(8)).toBe(host(0x200010));
    expect(peek64(b, PT)).toBe(0x200067n);
  });

  test('read-modify-write across pages', () => {
    const b = withPte(0x200007n);
    poke64(b, PT + 8, 0x210007n);
    poke32(b, 0x200ffc, 0xaabb0000);
    poke32(b, 0x210000, 0xccdd);
    slow(b, 0x40000ffen);
    const at = b.cpu.mmu.rmwBegin(4);
    expect(b.cpu.u32[at >>> 2]).toBe(0xccddaabb);
    b.cpu.u32[at >>> 2] = 0x12345678;
    expect(b.cpu.mmu.rmwCommit(4)).toBe(0);
    expect(peek32(b, 0x200ffc)).toBe(0x56780000);
    expect(peek32(b, 0x210000)).toBe(0x1234);
  });

  test('flushNonGlobal keeps global pages, flushAll none', () => {
    const b = withPte(0x200107n);
    poke64(b, PT + 8, 0x201007n);
    for (const linear of [0x40000000n, 0x40001000n]) {
      slow(b, linear);
      b.cpu.mmu.slowStore(4);
    }
    b.cpu.mmu.tlb.flushNonGlobal();
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(tagOf(0x40000000));
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 1)).toBe(invalidTag(1));
    b.cpu.mmu.tlb.flushNonGlobal();
    b.cpu.mmu.tlb.flushAll();
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(invalidTag(0));
    expect(tag(b, MMU.KERNEL, TLB_SET.READ, 0)).toBe(invalidTag(0));
  });

  test('flushes find every entry, also after more fills than the journal holds', () => {
    const b = withPte(0n);
    for (let page = 0; page < 512; page++)
      poke64(b, PT + page * 8, BigInt(0x200007 | (page & 1 ? 0x100 : 0)));
    // the table four times, and so 9216 fills of each kind
    for (let at = 1; at < 4; at++) poke64(b, 0x104000 + at * 8, BigInt(PT | 7));
    for (let round = 0; round < 3; round++) {
      for (const index of [MMU.KERNEL, MMU.USER, MMU.KERNEL_AC]) {
        for (let page = 0; page < 2048; page++) {
          b.cpu.mmu.resolve(0x40000000 + page * 4096, 0, ACCESS.WRITE, index);
          b.cpu.mmu.resolve(0x40000000 + page * 4096, 0, ACCESS.FETCH, index);
        }
      }
      b.cpu.mmu.tlb.flushNonGlobal();
      let global = 0;
      const first = (b.cpu.base + tlbSetOffset(0)) >>> 2;
      const entries = [MMU.KERNEL, MMU.USER, MMU.KERNEL_AC].flatMap((index) =>
        Array.from(
          { length: TLB_SET.ENTRIES_END / 16 },
          (_, i) => ((b.cpu.base + tlbSetOffset(index)) >>> 2) + i * 4,
        ),
      );
      for (const t of entries) {
        if (b.cpu.u32[t] === invalidTag((t - first) / 4)) continue;
        global++;
        expect(((b.cpu.u32[t] + 1) >>> 12) & 1).toBe(1);
      }
      expect(global).toBe(3 * 3 * 1024);
      b.cpu.mmu.tlb.flushAll();
      let left = 0;
      for (const t of entries) if (b.cpu.u32[t] !== invalidTag((t - first) / 4)) left++;
      expect(left).toBe(0);
    }
  });

  test('INVLPG drops one page; in a large page, all of it', () => {
    const b = withPte(0x200007n);
    poke64(b, PT + 8, 0x201007n);
    poke64(b, 0x104000 + 8, 0x200087n);
    for (const linear of [0x40000000, 0x40001000, 0x40200000, 0x40205000]) {
      b.cpu.mmu.resolve(linear, 0, ACCESS.READ, MMU.KERNEL);
    }
    b.cpu.mmu.tlb.flushPage(0x40000000, 0);
    expect(tag(b, MMU.KERNEL, TLB_SET.READ, 0)).toBe(invalidTag(0));
    expect(tag(b, MMU.KERNEL, TLB_SET.READ, 1)).toBe(tagOf(0x40001000));
    b.cpu.mmu.tlb.flushPage(0x40200000, 0);
    expect(tag(b, MMU.KERNEL, TLB_SET.READ, 0x205)).toBe(invalidTag(0x205));
  });

  test('dropWriteEntriesOf removes the write entries of a page in every set', () => {
    const b = withPte(0x200007n);
    b.cpu.mmu.resolve(0x40000000, 0, ACCESS.WRITE, MMU.KERNEL);
    b.cpu.mmu.resolve(0x40000000, 0, ACCESS.WRITE, MMU.USER);
    dropWriteEntriesOf(b.cpu.views.buffer, b.cpu.base, host(0x200000), true);
    expect(tag(b, MMU.KERNEL, TLB_SET.WRITE, 0)).toBe(invalidTag(0));
    expect(tag(b, MMU.USER, TLB_SET.WRITE, 0)).toBe(invalidTag(0));
    expect(tag(b, MMU.USER, TLB_SET.READ, 0)).toBe(tagOf(0x40000000));
  });

  test('write entries of a page are found, however many aliases there are, have come and have gone', () => {
    const b = withPte(0x200007n);
    const { buffer } = b.cpu.views;
    const { tlb } = b.cpu.mmu;
    // the last is of the class of the first
    const hosts = [host(0x200000), host(0x201000), host(0x200000) + WRITE_CLASSES * 4096];
    const has = (): boolean[] => hosts.map((page) => hasWriteEntryFor(buffer, b.cpu.base, page));
    const codeMap = new Uint8Array(new SharedArrayBuffer(1 << 20));
    const live = new Map<number, number>();
    let seed = 1;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % n;
    };
    const seen = new Set<string>();
    for (let step = 0; step < 800; step++) {
      const which = random(3);
      const action = random(8);
      if (action < 5) {
        const linear = random(5) * 4096;
        const index = random(2);
        tlb.fillWrite(linear, 0, hosts[which], index === 0, index, codeMap);
        live.set(linear + index, which);
      } else if (action === 5) {
        const linear = random(5) * 4096;
        tlb.flushPage(linear, 0);
        for (const index of [0, 1]) live.delete(linear + index);
      } else if (action === 6) {
        dropWriteEntriesOf(buffer, b.cpu.base, hosts[which], random(2) === 0);
        for (const [key, page] of live) if (page === which) live.delete(key);
      } else if (random(4) === 0) {
        tlb.flushNonGlobal();
        for (const key of live.keys()) if ((key & 1) === 1) live.delete(key);
      }
      const expected = hosts.map((_, i) => [...live.values()].includes(i));
      expect(has()).toEqual(expected);
      seen.add(`${live.size} ${expected.join(' ')}`);
    }
    expect(seen.size).toBeGreaterThan(20);
  });

  test('the MMU index follows CPL, SMAP and AC', () => {
    const b = withPte(0n);
    expect(b.cpu.mmu.index()).toBe(MMU.KERNEL);
    b.cpu.env.eflags |= FLAG.AC;
    b.cpu.updateMmuIndex();
    expect(b.cpu.mmu.index()).toBe(MMU.KERNEL);
    b.cpu.env.cr4 |= BigInt(CR4.SMAP);
    b.cpu.updateMmuIndex();
    expect(b.cpu.mmu.index()).toBe(MMU.KERNEL_AC);
    b.cpu.env.cpl = 3;
    b.cpu.updateMmuIndex();
    expect(b.cpu.mmu.index()).toBe(MMU.USER);
  });

  test('fetchTranslate gives the wasm address, #PF with I/D, and #UD for device memory', () => {
    const b = withPte(0x200007n);
    expect(b.cpu.mmu.fetchTranslate(0x40000123, 0)).toBe(host(0x200123));
    poke64(b, PT + 8, 0x201007n | NX);
    expect(b.cpu.mmu.fetchTranslate(0x40001000, 0)).toBe(-1);
    expect(raised(b)).toEqual([VEC.PF, 0x11]);
    poke64(b, PT + 16, 0xc0000007n);
    expect(b.cpu.mmu.fetchTranslate(0x40002000, 0)).toBe(-1);
    expect(raised(b)).toEqual([VEC.UD, -1]);
  });

  test('A20 masked: the second megabyte is the first', () => {
    const b = makeBench();
    b.mem.setA20(false);
    expect(b.mem.hostOffset(0x100040, 0)).toBe(host(0x40));
    b.mem.setA20(true);
    expect(b.mem.hostOffset(0x100040, 0)).toBe(host(0x100040));
  });

  test('regions outside RAM come and go', () => {
    const b = makeBench();
    expect(b.mem.hostOffset(0xe0001234, 0)).toBe(-1);
    const slot = b.mem.addRegion(0xe0000000, 0x10000, host(0x300000), true);
    expect(b.mem.hostOffset(0xe0001234, 0)).toBe(host(0x301234));
    expect(b.mem.writeOffset(0xe000ffff, 0)).toBe(host(0x30ffff));
    expect(b.mem.hostOffset(0xe0010000, 0)).toBe(-1);
    expect(b.mem.hostOffset(0xe0001234, 1)).toBe(-1);
    b.mem.removeRegion(slot);
    expect(b.mem.hostOffset(0xe0001234, 0)).toBe(-1);
    expect(() => b.mem.addRegion(0xe0000100, 0x1000, 0, true)).toThrow(/not page-aligned/);
  });
});
