/** Bit tests, scans, counts; BMI. Source: Intel SDM vol. 2. */
import { type Expr, i32 } from '../../wasm/index.ts';
import { constant, type Ins, type Semantics, signExtend } from './ins.ts';
import { mulHighUnsigned } from './product.ts';

const WIDE = [2, 4, 8] as const;
const GPR = [4, 8] as const;

function oneShifted(ins: Ins, n: Expr): Expr {
  return constant(ins.size, 1).shl(n);
}

type BitChange = (old: Expr, mask: Expr) => Expr;

/**
 * BT, BTS, BTR, BTC. With a register offset and a memory operand the offset is signed and reaches beyond the
 * operand: the addressed unit is found first.
 */
function bitTest(name: string, change?: BitChange): Semantics {
  return {
    name,
    forms: ['rr', 'ri', 'mr', 'mi'],
    sizes: WIDE,
    lockable: change !== undefined,
    emit(ins) {
      const { f, size } = ins;
      const bits = size * 8;
      const offset = ins.read(1);
      const n = f.let(offset.and(bits - 1));
      const carry = f.local('i32');
      const apply = (old: Expr): Expr => {
        f.set(carry, old.shrU(n).i32().and(1));
        return change === undefined ? old : change(old, oneShifted(ins, n));
      };
      if (ins.kinds[0] === 'm' && ins.kinds[1] === 'r') {
        const shift = size === 2 ? 4 : size === 4 ? 5 : 6;
        const unit = signExtend(offset, size, 8).shrS(shift).mul(size);
        const address = ins.movedAddress(0, unit);
        if (change === undefined) apply(ins.load(address, size));
        else ins.modifyAt(address, size, apply);
      } else if (change === undefined) {
        apply(ins.read(0));
      } else {
        ins.modify(0, apply);
      }
      ins.flags.setCarryFlag(carry);
    },
  };
}

/** BSF, BSR: with a zero source only ZF changes and the destination is kept. */
function bitScan(name: string, index: (ins: Ins, v: Expr) => Expr): Semantics {
  return {
    name,
    forms: ['rr', 'rm'],
    sizes: WIDE,
    setsAllFlags: true,
    emit(ins) {
      const v = ins.read(1);
      ins.flags.setAll({ zf: v.eqz() });
      ins.f.if(ins.size === 8 ? v.ne(0) : v, () => ins.write(0, index(ins, v)));
    },
  };
}

/** TZCNT, LZCNT: CF for a zero source, ZF for a zero result. */
function count(name: string, compute: (v: Expr, bits: number) => Expr): Semantics {
  return {
    name,
    forms: ['rr', 'rm'],
    sizes: WIDE,
    setsAllFlags: true,
    emit(ins) {
      const v = ins.read(1);
      const r = ins.f.let(compute(v, ins.size * 8));
      ins.flags.setAll({ cf: v.eqz(), zf: r.eqz() });
      ins.write(0, r);
    },
  };
}

/** Three-operand BMI instructions that leave CF = OF = 0. */
function bmi(name: string, forms: string[], compute: (a: Expr, b: Expr) => Expr): Semantics {
  return {
    name,
    forms,
    sizes: GPR,
    setsAllFlags: true,
    emit(ins) {
      const r = ins.f.let(compute(ins.read(1), ins.read(2)));
      ins.flags.logic(ins.size, r);
      ins.write(0, r);
    },
  };
}

/** BLSR, BLSMSK, BLSI: CF tells about the source. */
function lowestBit(name: string, compute: (a: Expr) => Expr, carry: (a: Expr) => Expr): Semantics {
  return {
    name,
    forms: ['rr', 'rm'],
    sizes: GPR,
    setsAllFlags: true,
    emit(ins) {
      const a = ins.read(1);
      const r = ins.f.let(compute(a));
      ins.flags.explicit(ins.size, r, carry(a), i32(0));
      ins.write(0, r);
    },
  };
}

/** SARX, SHLX, SHRX, RORX: no flags. */
function shiftX(name: string, compute: (a: Expr, n: Expr) => Expr): Semantics {
  return {
    name,
    forms: name === 'rorx' ? ['rri', 'rmi'] : ['rrr', 'rmr'],
    sizes: GPR,
    emit(ins) {
      const n = ins.read(2, name === 'rorx' ? 1 : ins.size).and(ins.size * 8 - 1);
      ins.write(0, compute(ins.read(1), ins.size === 8 ? n.i64u() : n));
    },
  };
}

/** PDEP, PEXT by a loop over the mask's set bits. */
function depositExtract(name: string, deposit: boolean): Semantics {
  return {
    name,
    forms: ['rrr', 'rrm'],
    sizes: GPR,
    emit(ins) {
      const { f, size } = ins;
      const source = f.copy(ins.read(1));
      const mask = f.copy(ins.read(2));
      const r = f.copy(constant(size, 0));
      const next = f.copy(constant(size, 1));
      const lowest = f.local(mask.type);
      f.block((done) => {
        f.loop((again) => {
          f.brIf(done, mask.eqz());
          f.set(lowest, mask.and(constant(size, 0).sub(mask)));
          const found = source.and(deposit ? next : lowest);
          f.if(size === 8 ? found.ne(0) : found, () => f.set(r, r.or(deposit ? lowest : next)));
          f.set(mask, mask.xor(lowest));
          f.set(next, next.shl(1));
          f.br(again);
        });
      });
      ins.write(0, r);
    },
  };
}

/** ADCX, ADOX: addition whose carry lives in CF or OF alone. */
function carryChain(name: string, overflow: boolean): Semantics {
  return {
    name,
    forms: ['rr', 'rm'],
    sizes: GPR,
    emit(ins) {
      const { f, size, flags } = ins;
      const b = ins.read(1);
      const a = ins.read(0);
      const cf = f.let(flags.carry());
      const of = f.let(flags.overflow());
      const carry = overflow ? of : cf;
      const sum = f.let(a.add(b));
      const r = f.let(sum.add(size === 8 ? carry.i64u() : carry));
      const out = f.let(sum.ltU(a).or(r.ltU(sum)));
      flags.setCarryOverflow(overflow ? cf : out, overflow ? out : of);
      ins.write(0, r);
    },
  };
}

export const BIT_SEMANTICS: readonly Semantics[] = [
  bitTest('bt'),
  bitTest('bts', (old, mask) => old.or(mask)),
  bitTest('btr', (old, mask) => old.and(mask.xor(-1))),
  bitTest('btc', (old, mask) => old.xor(mask)),
  bitScan('bsf', (_, v) => v.ctz()),
  bitScan('bsr', (ins, v) => constant(ins.size, ins.size === 8 ? 63 : 31).sub(v.clz())),
  count('tzcnt', (v, bits) => (bits === 16 ? v.or(0x10000).ctz() : v.ctz())),
  count('lzcnt', (v, bits) => (bits === 16 ? v.clz().sub(16) : v.clz())),
  {
    name: 'popcnt',
    forms: ['rr', 'rm'],
    sizes: WIDE,
    setsAllFlags: true,
    emit(ins) {
      const v = ins.read(1);
      ins.flags.setAll({ zf: v.eqz() });
      ins.write(0, v.popcnt());
    },
  },
  bmi('andn', ['rrr', 'rrm'], (a, b) => a.xor(-1).and(b)),
  {
    name: 'bextr',
    forms: ['rrr', 'rmr'],
    sizes: GPR,
    setsAllFlags: true,
    emit(ins) {
      const { f, size } = ins;
      const bits = size * 8;
      const control = f.let(ins.read(2).i32());
      const start = f.let(control.and(0xff));
      const length = f.let(control.shrU(8).and(0xff));
      const value = ins.read(1);
      const wide = (e: Expr): Expr => (size === 8 ? e.i64u() : e);
      const zero = constant(size, 0);
      const shifted = f.let(start.ltU(i32(bits)).select(value.shrU(wide(start)), zero));
      const mask = length
        .ltU(i32(bits))
        .select(constant(size, 1).shl(wide(length)).sub(1), constant(size, -1));
      const r = f.let(shifted.and(mask));
      ins.flags.setAll({ zf: r.eqz() });
      ins.write(0, r);
    },
  },
  {
    name: 'bzhi',
    forms: ['rrr', 'rmr'],
    sizes: GPR,
    setsAllFlags: true,
    emit(ins) {
      const { f, size } = ins;
      const n = f.let(ins.read(2).i32().and(0xff));
      const over = f.let(n.geU(i32(size * 8)));
      const keep = constant(size, 1)
        .shl(size === 8 ? n.i64u() : n)
        .sub(1);
      const value = ins.read(1);
      const r = f.let(over.select(value, value.and(keep)));
      ins.flags.explicit(size, r, over, i32(0));
      ins.write(0, r);
    },
  },
  lowestBit(
    'blsr',
    (a) => a.and(a.sub(1)),
    (a) => a.eqz(),
  ),
  lowestBit(
    'blsmsk',
    (a) => a.xor(a.sub(1)),
    (a) => a.eqz(),
  ),
  lowestBit(
    'blsi',
    (a) => a.and(a.xor(-1).add(1)),
    (a) => a.eqz().eqz(),
  ),
  shiftX('sarx', (a, n) => a.shrS(n)),
  shiftX('shlx', (a, n) => a.shl(n)),
  shiftX('shrx', (a, n) => a.shrU(n)),
  shiftX('rorx', (a, n) => a.rotr(n)),
  {
    name: 'mulx',
    forms: ['rrr', 'rrm'],
    sizes: GPR,
    emit(ins) {
      const { f, size } = ins;
      const b = ins.read(2);
      const a = f.copy(ins.reg(2));
      if (size === 8) {
        const high = mulHighUnsigned(f, a, b);
        ins.write(1, a.mul(b));
        ins.write(0, high);
      } else {
        const wide = f.let(a.i64u().mul(b.i64u()));
        ins.write(1, wide.i32());
        ins.write(0, wide.shrU(32).i32());
      }
    },
  },
  depositExtract('pdep', true),
  depositExtract('pext', false),
  carryChain('adcx', false),
  carryChain('adox', true),
  ...([1, 2, 4, 8] as const).map((from): Semantics => ({
    // CRC32 r32/r64, r/m of `from` bytes: reflected polynomial 0x1EDC6F41, one bit a step
    name: `crc32_${from * 8}`,
    forms: ['rr', 'rm'],
    sizes: GPR,
    emit(ins) {
      const { f } = ins;
      const data = f.copy(ins.read(1, from).i64u());
      const crc = f.copy(ins.read(0, 4));
      const n = f.copy(i32(from * 8));
      f.loop((again) => {
        const odd = crc.xor(data.i32()).and(1);
        f.set(
          crc,
          crc.shrU(1).xor(
            i32(0)
              .sub(odd)
              .and(0x82f63b78 | 0),
          ),
        );
        f.set(data, data.shrU(1));
        f.set(n, n.sub(1));
        f.brIf(again, n);
      });
      ins.write(0, ins.size === 8 ? crc.i64u() : crc);
    },
  })),
];
