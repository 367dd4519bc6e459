/**
 * CR0–CR8, CLTS, LMSW, XCR0, INVLPG, INVPCID. SDM 3A 2.5, 4.1–4.4, 4.10, 9.8; SDM 2 MOV to/from control registers.
 */
import { MMU, SEG } from '../env.ts';
import type { Cpu } from './cpu.ts';
import {
  ATTR,
  CR0,
  CR4,
  EFER,
  SEG_ATTR,
  STATUS,
  VEC,
  W_CR0,
  W_CR2,
  W_CR3,
  W_CR4,
  W_EFER,
  W_PDPTE,
  W_TR,
  W_XCR0,
} from './words.ts';

const CR0_KNOWN =
  CR0.PE | CR0.MP | CR0.EM | CR0.TS | CR0.ET | CR0.NE | CR0.WP | CR0.AM | CR0.NW | CR0.CD | CR0.PG;
/** Bits that translations or their rights depend on. */
const CR0_MMU = CR0.PG | CR0.WP | CR0.PE;
const CR4_MMU = CR4.PSE | CR4.PAE | CR4.PGE | CR4.PCIDE | CR4.SMEP | CR4.SMAP;
/** Changing one of these under PAE paging loads the PDPTEs (SDM 3A 4.4.1). */
const CR4_PDPTE = CR4.PSE | CR4.PAE | CR4.PGE | CR4.SMEP;

/** MOV from CRn: operand 1 is the number. */
export function movFromCr(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  switch (cpu.op(1)) {
    case 0:
      return result(cpu, W_CR0);
    case 2:
      return result(cpu, W_CR2);
    case 3:
      return result(cpu, W_CR3);
    case 4:
      return result(cpu, W_CR4);
    case 8:
      cpu.setResult(cpu.apic.getCr8(), 0);
      return STATUS.NEXT;
    default:
      return cpu.raiseUd();
  }
}

function result(cpu: Cpu, word: number): number {
  cpu.setResult(cpu.get(word), cpu.get(word + 1));
  return STATUS.NEXT;
}

/** MOV to CRn: operand 0 is the number, operand 1 the value. */
export function movToCr(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const lo = cpu.op(1);
  const hi = cpu.opHigh(1);
  switch (cpu.op(0)) {
    case 0:
      return writeCr0(cpu, lo, hi);
    case 2:
      cpu.set64(W_CR2, lo, hi);
      return STATUS.NEXT;
    case 3:
      return writeCr3(cpu, lo, hi);
    case 4:
      return writeCr4(cpu, lo, hi);
    case 8:
      if (hi !== 0 || lo > 15) return cpu.raiseGp(0);
      cpu.apic.setCr8(lo);
      // a lower priority may let an interrupt in
      return leave(cpu);
    default:
      return cpu.raiseUd();
  }
}

/** After a change that mappings or decoding depend on: the next instruction is looked up afresh. */
function leave(cpu: Cpu): number {
  cpu.advance();
  return STATUS.LOOKUP;
}

/** MOV to CR0, also LMSW and CLTS: checks, mode transitions, flushes. */
export function writeCr0(cpu: Cpu, lo: number, hi: number): number {
  const old = cpu.get(W_CR0);
  const value = ((lo & CR0_KNOWN) | CR0.ET) >>> 0;
  if (hi !== 0) return cpu.raiseGp(0);
  if ((value & CR0.PG) !== 0 && (value & CR0.PE) === 0) return cpu.raiseGp(0);
  if ((value & CR0.NW) !== 0 && (value & CR0.CD) === 0) return cpu.raiseGp(0);
  const efer = cpu.get(W_EFER);
  const cr4 = cpu.get(W_CR4);
  const changed = old ^ value;
  if ((changed & CR0.PG) !== 0) {
    if ((value & CR0.PG) !== 0) {
      if ((efer & EFER.LME) !== 0) {
        const cs = cpu.u32[cpu.segWord(SEG.CS) + SEG_ATTR];
        const tss16 = ((cpu.u32[cpu.w + W_TR + SEG_ATTR] >>> 8) & 13) === 1;
        if ((cr4 & CR4.PAE) === 0 || (cs & ATTR.L) !== 0 || tss16) return cpu.raiseGp(0);
        cpu.set(W_EFER, efer | EFER.LMA);
      } else if ((cr4 & CR4.PAE) !== 0 && !loadPdptes(cpu, cpu.get(W_CR3))) {
        return cpu.raiseGp(0);
      }
    } else {
      if ((cr4 & CR4.PCIDE) !== 0 || cpu.code64()) return cpu.raiseGp(0);
      cpu.set(W_EFER, efer & ~EFER.LMA);
    }
  }
  cpu.set64(W_CR0, value, 0);
  cpu.onControl?.(0, cpu.env.cr0);
  if ((changed & CR0_MMU) !== 0) cpu.mmu.tlb.flushAll();
  if (changed === 0) return STATUS.NEXT;
  cpu.updateMode();
  return leave(cpu);
}

/** CLTS. */
export function clts(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const cr0 = cpu.get(W_CR0);
  if ((cr0 & CR0.TS) === 0) return STATUS.NEXT;
  return writeCr0(cpu, (cr0 & ~CR0.TS) >>> 0, 0);
}

/** LMSW: PE can be set but not cleared. */
export function lmsw(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const cr0 = cpu.get(W_CR0);
  return writeCr0(cpu, ((cr0 & ~14) | (cpu.op(0) & 15)) >>> 0, 0);
}

/** Physical address bits above MAXPHYADDR in the high half, up to bit 63. */
function reservedCr3(cpu: Cpu): number {
  return (cpu.model.reservedHigh | 0xfff00000) >>> 0;
}

function writeCr3(cpu: Cpu, lo: number, hi: number): number {
  const cr4 = cpu.get(W_CR4);
  let keep = false;
  if (cpu.longMode()) {
    if ((cr4 & CR4.PCIDE) !== 0) {
      keep = hi >>> 31 !== 0;
      hi = (hi & 0x7fffffff) >>> 0;
    }
    if ((hi & reservedCr3(cpu)) !== 0) return cpu.raiseGp(0);
  } else {
    hi = 0;
    const pae = (cpu.get(W_CR0) & CR0.PG) !== 0 && (cr4 & CR4.PAE) !== 0;
    if (pae && !loadPdptes(cpu, lo)) return cpu.raiseGp(0);
  }
  // entries are not tagged with a PCID, so only a reload of the same value can keep them
  const same = lo === cpu.get(W_CR3) && hi === cpu.get(W_CR3 + 1);
  cpu.set64(W_CR3, lo, hi);
  cpu.onControl?.(3, cpu.env.cr3);
  if (!(keep && same)) cpu.mmu.tlb.flushNonGlobal();
  return leave(cpu);
}

/** CR3 from a TSS. False: the PDPTEs it names are invalid. */
export function loadCr3InTaskSwitch(cpu: Cpu, value: number): boolean {
  if (value === cpu.get(W_CR3)) return true;
  if ((cpu.get(W_CR4) & CR4.PAE) !== 0 && !loadPdptes(cpu, value)) return false;
  cpu.set64(W_CR3, value, 0);
  cpu.onControl?.(3, cpu.env.cr3);
  cpu.mmu.tlb.flushNonGlobal();
  return true;
}

const pdptes = new Uint32Array(8);

/** Reads the four PDPTEs of PAE paging at CR3's address. False: one has reserved bits set; nothing is loaded. */
function loadPdptes(cpu: Cpu, cr3: number): boolean {
  const base = (cr3 & ~31) >>> 0;
  const mem = cpu.mem;
  for (let i = 0; i < 8; i++) {
    const at = base + i * 4;
    const host = mem.hostOffset(at, 0);
    pdptes[i] = host < 0 ? mem.readDevice(at, 0, 4) : cpu.u32[host >>> 2];
  }
  for (let i = 0; i < 8; i += 2) {
    if ((pdptes[i] & 1) === 0) continue;
    if ((pdptes[i] & 0x1e6) !== 0 || (pdptes[i + 1] & reservedCr3(cpu)) !== 0) return false;
  }
  for (let i = 0; i < 8; i++) cpu.set(W_PDPTE + i, pdptes[i]);
  return true;
}

/** Bits of CR4 that the CPU model has. */
export function cr4Known(cpu: Cpu): number {
  const m = cpu.model;
  let known = CR4.PCE;
  if (m.has('tsc')) known |= CR4.TSD;
  if (m.has('de')) known |= CR4.DE;
  if (m.has('pse')) known |= CR4.PSE;
  if (m.has('pae')) known |= CR4.PAE;
  if (m.has('mce')) known |= CR4.MCE;
  if (m.has('pge')) known |= CR4.PGE;
  if (m.has('fxsr')) known |= CR4.OSFXSR;
  if (m.has('sse')) known |= CR4.OSXMMEXCPT;
  if (m.umip) known |= CR4.UMIP;
  if (m.fsgsbase) known |= CR4.FSGSBASE;
  if (m.pcid) known |= CR4.PCIDE;
  if (m.xsave) known |= CR4.OSXSAVE;
  if (m.smep) known |= CR4.SMEP;
  if (m.smap) known |= CR4.SMAP;
  return known;
}

function writeCr4(cpu: Cpu, lo: number, hi: number): number {
  const old = cpu.get(W_CR4);
  if (hi !== 0 || (lo & ~cr4Known(cpu)) !== 0) return cpu.raiseGp(0);
  const changed = old ^ lo;
  const long = cpu.longMode();
  if (long && (lo & CR4.PAE) === 0) return cpu.raiseGp(0);
  if ((changed & lo & CR4.PCIDE) !== 0 && (!long || (cpu.get(W_CR3) & 0xfff) !== 0)) return cpu.raiseGp(0);
  const paging = (cpu.get(W_CR0) & CR0.PG) !== 0;
  if (paging && !long && (lo & CR4.PAE) !== 0 && (changed & CR4_PDPTE) !== 0) {
    if (!loadPdptes(cpu, cpu.get(W_CR3))) return cpu.raiseGp(0);
  }
  cpu.set64(W_CR4, lo, 0);
  cpu.onControl?.(4, cpu.env.cr4);
  if ((changed & CR4_MMU) !== 0) cpu.mmu.tlb.flushAll();
  if (changed === 0) return STATUS.NEXT;
  cpu.updateMode();
  return leave(cpu);
}

/** INVLPG: the linear address is in slowAddr. */
export function invlpg(cpu: Cpu): number {
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  // code at the page may be executing from a cached translation
  cpu.mmu.tlb.flushPage(cpu.addrLo, cpu.addrHi);
  cpu.onModeChange();
  return leave(cpu);
}

/** INVPCID (SDM 2): operand 0 is the type, the descriptor is at slowAddr. Entries carry no PCID, so more is dropped than asked. */
export function invpcid(cpu: Cpu): number {
  if (!cpu.model.invpcid || !cpu.protectedMode()) return cpu.raiseUd();
  if (cpu.cpl !== 0) return cpu.raiseGp(0);
  const mmu = cpu.mmu;
  const type = cpu.op(0);
  if (type > 3 || cpu.opHigh(0) !== 0) return cpu.raiseGp(0);
  if (!mmu.readBlock(cpu.addrLo, cpu.addrHi, 16, mmu.index())) return STATUS.EXCEPTION;
  const pcid = mmu.block32[0];
  const high = mmu.block32[1];
  const lo = mmu.block32[2];
  const hi = mmu.block32[3];
  const pcide = (cpu.get(W_CR4) & CR4.PCIDE) !== 0;
  if (type < 3 && (pcid > 0xfff || high !== 0)) return cpu.raiseGp(0);
  if (type < 2 && !pcide && pcid !== 0) return cpu.raiseGp(0);
  if (type === 0) {
    if (!mmu.canonical(hi, VEC.GP)) return STATUS.EXCEPTION;
    mmu.tlb.flushPage(lo, hi);
  } else if (type === 2) mmu.tlb.flushAll();
  else mmu.tlb.flushNonGlobal();
  cpu.onModeChange();
  return leave(cpu);
}

/** XGETBV. */
export function xgetbv(cpu: Cpu): number {
  if ((cpu.get(W_CR4) & CR4.OSXSAVE) === 0) return cpu.raiseUd();
  if (cpu.reg(1) !== 0) return cpu.raiseGp(0);
  cpu.setReg(0, cpu.get(W_XCR0), 0);
  cpu.setReg(2, cpu.get(W_XCR0 + 1), 0);
  return STATUS.NEXT;
}

/** XSETBV. */
export function xsetbv(cpu: Cpu): number {
  if ((cpu.get(W_CR4) & CR4.OSXSAVE) === 0) return cpu.raiseUd();
  if (cpu.cpl !== 0 || cpu.reg(1) !== 0) return cpu.raiseGp(0);
  const lo = cpu.reg(0);
  if (cpu.reg(2) !== 0 || (lo & ~cpu.model.xcr0Known) !== 0 || (lo & 1) === 0) return cpu.raiseGp(0);
  // AVX state needs SSE's
  if ((lo & 6) === 4) return cpu.raiseGp(0);
  cpu.set64(W_XCR0, lo, 0);
  cpu.onModeChange();
  return leave(cpu);
}

/** MMU index in which the debugger and host look at memory: supervisor, not stopped by SMAP. */
export const DEBUGGER_INDEX = MMU.KERNEL_AC;
