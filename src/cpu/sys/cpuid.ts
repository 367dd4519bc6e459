/**
 * CPU models and the CPUID instruction. SDM 2A CPUID; APM 3 appendix E.
 */
import { featureBit, featureName, IMPLEMENTED, MODELS, WORD } from './cpu-features.ts';

/** A CPU option that cannot be. */
export class CpuModelError extends Error {
  readonly code: 'UNKNOWN_MODEL' | 'UNKNOWN_FEATURE' | 'BAD_VALUE';
  constructor(code: CpuModelError['code'], message: string) {
    super(message);
    this.name = 'CpuModelError';
    this.code = code;
  }
}

/** How the vCPUs are arranged; the product is the number of vCPUs. */
export interface Topology {
  readonly sockets: number;
  readonly dies: number;
  readonly cores: number;
  readonly threads: number;
}

export const ONE_CPU: Topology = { sockets: 1, dies: 1, cores: 1, threads: 1 };

/** Bits needed for `count` values. */
function bitsFor(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}

/** The APIC id of vCPU `index`: thread, core, die and socket numbers in fields of whole bits (SDM 3A 9.9.1). */
export function apicIdOf(index: number, topology: Topology): number {
  const thread = index % topology.threads;
  const core = Math.floor(index / topology.threads) % topology.cores;
  const die = Math.floor(index / (topology.threads * topology.cores)) % topology.dies;
  const socket = Math.floor(index / (topology.threads * topology.cores * topology.dies));
  const coreShift = bitsFor(topology.threads);
  const dieShift = coreShift + bitsFor(topology.cores);
  const socketShift = dieShift + bitsFor(topology.dies);
  return thread | (core << coreShift) | (die << dieShift) | (socket << socketShift);
}

/** What CPUID shows of a vCPU's state. */
export interface CpuidState {
  readonly apicId: number;
  /** CR4.OSXSAVE, and IA32_APIC_BASE.EN. */
  readonly osxsave: boolean;
  readonly xcr0: number;
  readonly apicEnabled: boolean;
}

const HYPERVISOR_SIGNATURE = 'TCGTCGTCGTCG';
/** Leaf 1 EDX bits repeated in 8000_0001h EDX by AMD. */
const AMD_ALIASES = 0x0183f3ff;

function text(s: string, at: number): number {
  let word = 0;
  for (let i = 0; i < 4; i++) word |= (s.charCodeAt(at + i) || 0) << (8 * i);
  return word;
}

/** A CPU model as configured: immutable, shared by all vCPUs. *Thread:* any. */
export class CpuModel {
  readonly name: string;
  readonly vendor: string;
  readonly topology: Topology;
  readonly physBits: number;
  /** The feature words by `WORD`. */
  readonly words: Uint32Array;
  /** Features asked for that are not implemented: QEMU's warning, one line each. */
  readonly warnings: readonly string[];

  // what the rest of the CPU asks
  /** Bits 51:MAXPHYADDR of a paging entry, at their place in the high half. */
  readonly reservedHigh: number;
  readonly intel: boolean;
  readonly hugePages: boolean;
  readonly nx: boolean;
  readonly longMode: boolean;
  readonly syscall: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly umip: boolean;
  readonly fsgsbase: boolean;
  readonly pcid: boolean;
  readonly invpcid: boolean;
  readonly rdtscp: boolean;
  readonly rdpid: boolean;
  readonly monitor: boolean;
  readonly xsave: boolean;
  /** Bits that XCR0 may have: x87, SSE, AVX. */
  readonly xcr0Known: number;
  readonly x2apic: boolean;
  readonly tscDeadline: boolean;
  readonly tscAdjust: boolean;
  readonly sysenter: boolean;

  readonly #signature: number;
  readonly #level: number;
  readonly #xlevel: number;
  readonly #brand: string;

  /**
   * `spec` is the value of `-cpu`: a model and options, e.g. `max,-smap,+pcid,vendor=GenuineIntel,phys-bits=36`.
   * Throws CpuModelError.
   */
  constructor(spec: string, topology: Topology = ONE_CPU) {
    const [name, ...options] = spec.split(',');
    const definition = MODELS[name];
    if (definition === undefined) {
      throw new CpuModelError('UNKNOWN_MODEL', `unable to find CPU model '${name}'`);
    }
    this.name = name;
    this.topology = topology;
    const words = definition.features.slice();
    const warnings: string[] = [];
    let vendor = definition.vendor;
    let physBits = 40;
    let brand = definition.brand;
    for (const option of options) {
      const match = /^([+-]?)([^=]+)(?:=(.*))?$/.exec(option);
      if (match === null) throw new CpuModelError('BAD_VALUE', `bad CPU option '${option}'`);
      const [, sign, key, value] = match;
      if (key === 'vendor' && value !== undefined) {
        if (value.length !== 12) {
          throw new CpuModelError('BAD_VALUE', `Property '.vendor' doesn't take value '${value}'`);
        }
        vendor = value;
        continue;
      }
      if (key === 'model-id' && value !== undefined) {
        brand = value;
        continue;
      }
      if (key === 'phys-bits' && value !== undefined) {
        physBits = Number(value);
        if (!(Number.isInteger(physBits) && physBits >= 32 && physBits <= 52)) {
          throw new CpuModelError('BAD_VALUE', `phys-bits should be between 32 and 52 (but is ${value})`);
        }
        continue;
      }
      const at = featureBit(key);
      if (at === undefined) throw new CpuModelError('UNKNOWN_FEATURE', `Property '.${key}' not found`);
      if (value !== undefined && value !== 'on' && value !== 'off') {
        throw new CpuModelError('BAD_VALUE', `Parameter '${key}' expects 'on' or 'off'`);
      }
      if (sign === '-' || value === 'off') words[at.word] &= ~(1 << at.bit);
      else words[at.word] |= 1 << at.bit;
    }
    for (let word = 0; word < WORD.COUNT; word++) {
      const missing = words[word] & ~IMPLEMENTED[word];
      for (let bit = 0; bit < 32; bit++) {
        if (((missing >>> bit) & 1) !== 0) {
          warnings.push(`warning: smp86 doesn't support requested feature: ${featureName(word, bit)}`);
        }
      }
      words[word] &= IMPLEMENTED[word];
    }
    const logical = topology.cores * topology.threads * topology.dies;
    this.vendor = vendor;
    this.intel = vendor === 'GenuineIntel';
    if (logical > 1) {
      words[WORD.F1D] |= 1 << 28;
      if (!this.intel) words[WORD.E1C] |= 1 << 1;
    }
    if (vendor === 'AuthenticAMD') words[WORD.E1D] |= words[WORD.F1D] & AMD_ALIASES;
    this.words = words;
    this.warnings = warnings;
    this.physBits = physBits;
    this.reservedHigh = 0x000fffff & ~(2 ** (physBits - 32) - 1);
    const has = (feature: string): boolean => this.has(feature);
    this.hugePages = has('pdpe1gb');
    this.nx = has('nx');
    this.longMode = has('lm');
    this.syscall = has('syscall');
    this.smep = has('smep');
    this.smap = has('smap');
    this.umip = has('umip');
    this.fsgsbase = has('fsgsbase');
    this.pcid = has('pcid');
    this.invpcid = has('invpcid');
    this.rdtscp = has('rdtscp');
    this.rdpid = has('rdpid');
    this.monitor = has('monitor');
    this.xsave = has('xsave');
    this.xcr0Known = has('avx') ? 7 : 3;
    this.x2apic = has('x2apic');
    this.tscDeadline = has('tsc-deadline');
    this.tscAdjust = has('tsc-adjust');
    this.sysenter = has('sep');
    this.#brand = brand;
    this.#level = topology.dies > 1 ? Math.max(definition.level, 0x1f) : definition.level;
    this.#xlevel = definition.xlevel;
    const { family, model, stepping } = definition;
    this.#signature =
      stepping |
      ((model & 15) << 4) |
      ((model >> 4) << 16) |
      (family > 15 ? (15 << 8) | ((family - 15) << 20) : family << 8);
  }

  /** True when a feature is announced. */
  has(feature: string): boolean {
    const at = featureBit(feature);
    return at !== undefined && ((this.words[at.word] >>> at.bit) & 1) !== 0;
  }

  /** Family, model and stepping as leaf 1 EAX (also DX at reset). */
  get signature(): number {
    return this.#signature;
  }

  /** Leaf `leaf`, subleaf `sub`: EAX, EBX, ECX, EDX to `out`. */
  cpuid(leaf: number, sub: number, state: CpuidState, out: Uint32Array): void {
    leaf >>>= 0;
    const hypervisor = this.has('hypervisor');
    const top =
      leaf >= 0x80000000 ? this.#xlevel : leaf >= 0x40000000 && hypervisor ? 0x40000001 : this.#level;
    if (leaf > top) leaf = this.#level;
    out.fill(0);
    if (leaf >= 0x80000000) this.#extended(leaf, out);
    else if (leaf >= 0x40000000) {
      if (leaf === 0x40000000) {
        out[0] = 0x40000001;
        for (let i = 0; i < 3; i++) out[1 + i] = text(HYPERVISOR_SIGNATURE, i * 4);
      }
    } else this.#basic(leaf, sub >>> 0, state, out);
  }

  #basic(leaf: number, sub: number, state: CpuidState, out: Uint32Array): void {
    const { dies, cores, threads } = this.topology;
    const logical = dies * cores * threads;
    const words = this.words;
    switch (leaf) {
      case 0:
        out[0] = this.#level;
        this.#vendorTo(out);
        break;
      case 1:
        out[0] = this.#signature;
        out[1] = (state.apicId << 24) | ((logical > 1 ? logical & 255 : 0) << 16) | (8 << 8);
        out[2] = words[WORD.F1C] | (state.osxsave ? 1 << 27 : 0);
        out[3] = words[WORD.F1D] & (state.apicEnabled ? ~0 : ~(1 << 9));
        break;
      case 2:
        // one query; L1 32 KiB data and code, L2 2 MiB
        out[0] = 1;
        out[3] = 0x2c307d;
        break;
      case 4:
        this.#cache(sub, logical, out);
        break;
      case 5:
        if (this.monitor) {
          out[0] = 64;
          out[1] = 64;
          out[2] = 3;
        }
        break;
      case 6:
        out[0] = words[WORD.P6A];
        break;
      case 7:
        if (sub === 0) {
          out[1] = words[WORD.S7B];
          out[2] = words[WORD.S7C];
          out[3] = words[WORD.S7D];
        }
        break;
      case 0xd:
        if (this.xsave) this.#xstate(sub, state.xcr0, out);
        break;
      case 0xb:
      case 0x1f:
        this.#topologyTo(leaf, sub, state.apicId, out);
        break;
      default:
    }
  }

  #vendorTo(out: Uint32Array): void {
    out[1] = text(this.vendor, 0);
    out[3] = text(this.vendor, 4);
    out[2] = text(this.vendor, 8);
  }

  /** Leaf 4: caches. */
  #cache(sub: number, logical: number, out: Uint32Array): void {
    const { cores, dies, threads } = this.topology;
    const types = [
      { type: 1, level: 1, ways: 8, sets: 64, shared: threads },
      { type: 2, level: 1, ways: 8, sets: 64, shared: threads },
      { type: 3, level: 2, ways: 16, sets: 4096, shared: threads },
      { type: 3, level: 3, ways: 16, sets: 16384, shared: logical },
    ];
    if (sub >= types.length) return;
    const c = types[sub];
    const shared = 2 ** bitsFor(c.shared) - 1;
    const coreIds = 2 ** bitsFor(cores * dies) - 1;
    out[0] = c.type | (c.level << 5) | (1 << 8) | (shared << 14) | (coreIds << 26);
    out[1] = 63 | ((c.ways - 1) << 22);
    out[2] = c.sets - 1;
    out[3] = 1;
  }

  /** Leaf 0Dh: XSAVE areas (SDM 1 13.2). AVX's 256 bytes follow the legacy area and the header. */
  #xstate(sub: number, xcr0: number, out: Uint32Array): void {
    const avx = this.has('avx');
    const size = (mask: number): number => 576 + ((mask & 4) !== 0 ? 256 : 0);
    if (sub === 0) {
      out[0] = this.xcr0Known;
      out[1] = size(xcr0);
      out[2] = size(this.xcr0Known);
    } else if (sub === 1) {
      out[0] = this.words[WORD.XSA];
      if (this.has('xsavec')) out[1] = size(xcr0);
    } else if (sub === 2 && avx) {
      out[0] = 256;
      out[1] = 576;
    }
  }

  /** Leaves 0Bh and 1Fh: extended topology (SDM 3A 9.9). */
  #topologyTo(leaf: number, sub: number, apicId: number, out: Uint32Array): void {
    const { dies, cores, threads } = this.topology;
    out[2] = sub & 255;
    out[3] = apicId;
    const core = bitsFor(threads);
    const die = core + bitsFor(cores);
    const socket = die + bitsFor(dies);
    if (sub === 0) {
      out[0] = core;
      out[1] = threads;
      out[2] |= 1 << 8;
    } else if (sub === 1) {
      out[0] = leaf === 0xb ? socket : die;
      out[1] = leaf === 0xb ? threads * cores * dies : threads * cores;
      out[2] |= 2 << 8;
    } else if (sub === 2 && leaf === 0x1f) {
      out[0] = socket;
      out[1] = threads * cores * dies;
      out[2] |= 5 << 8;
    }
  }

  #extended(leaf: number, out: Uint32Array): void {
    const words = this.words;
    const logical = this.topology.dies * this.topology.cores * this.topology.threads;
    switch (leaf) {
      case 0x80000000:
        out[0] = this.#xlevel;
        this.#vendorTo(out);
        break;
      case 0x80000001:
        out[0] = this.#signature;
        out[2] = words[WORD.E1C];
        out[3] = words[WORD.E1D];
        break;
      case 0x80000002:
      case 0x80000003:
      case 0x80000004:
        for (let i = 0; i < 4; i++) out[i] = text(this.#brand.slice(0, 47), (leaf - 0x80000002) * 16 + i * 4);
        break;
      case 0x80000005:
        // L1: TLBs of 255 entries; data and code 64 KiB, 2-way, 64-byte lines
        out[0] = 0x01ff01ff;
        out[1] = 0x01ff01ff;
        out[2] = 0x40020140;
        out[3] = 0x40020140;
        break;
      case 0x80000006:
        // L2 512 KiB, 16-way, 64-byte lines; L3 16 MiB (units of 512 KiB), 16-way
        out[2] = 0x02008140;
        out[3] = (32 << 18) | 0x8140;
        break;
      case 0x80000007:
        out[3] = words[WORD.A7D];
        break;
      case 0x80000008:
        out[0] = this.physBits | (this.longMode ? 48 << 8 : 32 << 8);
        out[2] = logical > 1 ? (bitsFor(logical) << 12) | (logical - 1) : 0;
        break;
      default:
    }
  }
}
