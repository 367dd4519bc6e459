/** Moves between vector registers, memory and general registers; MXCSR. Source: Intel SDM vol. 2. */
import { type Expr } from '../../wasm/index.ts';
import { type Ins, REG, type Semantics } from './ins.ts';
import { constantOf, immediate, row } from './simd-emit.ts';
import { MXCSR_OFFSET } from './simd-float.ts';
import {
  dwords4,
  high64,
  iota,
  lane,
  low64,
  qwords2,
  shuffle,
  simd,
  words8,
  zext32,
  zext64,
  zero128,
} from './simd-ops.ts';

const GENERAL_PROTECTION = 13;
/** What LDMXCSR accepts. */
const MXCSR_VALID = 0xffff;

function wholeMoves(): Semantics[] {
  const rows: Semantics[] = [];
  for (const name of ['movups', 'movupd', 'movdqu']) {
    rows.push(row(name, 'xx xm mx', (ins) => ins.writeV128(0, ins.readV128(1, true), true)));
  }
  for (const name of ['movaps', 'movapd', 'movdqa']) {
    rows.push(row(name, 'xx xm mx', (ins) => ins.writeV128(0, ins.readV128(1))));
  }
  for (const name of ['movntps', 'movntpd', 'movntdq']) {
    rows.push(row(name, 'mx', (ins) => ins.writeV128(0, ins.readV128(1))));
  }
  rows.push(
    row('movntdqa', 'xm', (ins) => ins.writeV128(0, ins.readV128(1))),
    row('lddqu', 'xm', (ins) => ins.writeV128(0, ins.readV128(1, true))),
  );
  return rows;
}

/** movss, movsd: between registers the rest is kept, from memory it is cleared. */
function scalarMove(name: string, size: 4 | 8): Semantics {
  const replace = size === 4 ? 'i32x4.replace_lane' : 'i64x2.replace_lane';
  return row(name, 'xx xm mx', (ins) => {
    const v = ins.readLow(1, size);
    if (ins.kinds[0] === 'm') ins.writeLow(0, v, size);
    else ins.writeV128(0, lane(replace, 0, ins.kinds[1] === 'm' ? zero128() : ins.readV128(0), v));
  });
}

function halfMoves(): Semantics[] {
  const setLow = (ins: Ins, v: Expr): void =>
    ins.writeV128(0, lane('i64x2.replace_lane', 0, ins.readV128(0), v));
  const setHigh = (ins: Ins, v: Expr): void =>
    ins.writeV128(0, lane('i64x2.replace_lane', 1, ins.readV128(0), v));
  const rows = [
    row('movhlps', 'xx', (ins) => setLow(ins, high64(ins.readV128(1)))),
    row('movlhps', 'xx', (ins) => setHigh(ins, low64(ins.readV128(1)))),
  ];
  for (const format of ['ps', 'pd']) {
    rows.push(
      row(`movl${format}`, 'xm mx', (ins) => {
        const v = ins.readLow(1, 8);
        if (ins.kinds[0] === 'm') ins.writeLow(0, v, 8);
        else setLow(ins, v);
      }),
      row(`movh${format}`, 'xm mx', (ins) => {
        if (ins.kinds[0] === 'm') ins.writeLow(0, high64(ins.readV128(1)), 8);
        else setHigh(ins, ins.readLow(1, 8));
      }),
    );
  }
  return rows;
}

function duplicates(): Semantics[] {
  return [
    row('movsldup', 'xx xm', (ins) => {
      const v = ins.readV128(1);
      ins.writeV128(0, shuffle(v, v, [0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11]));
    }),
    row('movshdup', 'xx xm', (ins) => {
      const v = ins.readV128(1);
      ins.writeV128(0, shuffle(v, v, [4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15]));
    }),
    row('movddup', 'xx xm', (ins) => ins.writeV128(0, simd('i64x2.splat', ins.readLow(1, 8)))),
  ];
}

/** movd and movq between XMM and general registers or memory; also movq between XMM registers. */
function generalMoves(): Semantics[] {
  return [
    row('movd', 'xr xm rx mx', (ins) => {
      if (ins.kinds[0] === 'x') ins.writeV128(0, zext32(ins.read(1, 4)));
      else ins.write(0, ins.readLow(1, 4), 4);
    }),
    row('movq', 'xr xm rx mx xx', (ins) => {
      if (ins.kinds[1] === 'x') {
        const v = ins.readLow(1, 8);
        if (ins.kinds[0] === 'x') ins.writeV128(0, zext64(v));
        else ins.write(0, v, 8);
      } else ins.writeV128(0, zext64(ins.read(1, 8)));
    }),
    row('movmskps', 'rx', (ins) => ins.write(0, simd('i32x4.bitmask', ins.readV128(1)), 4)),
    row('movmskpd', 'rx', (ins) => ins.write(0, simd('i64x2.bitmask', ins.readV128(1)), 4)),
    row('pmovmskb', 'rx', (ins) => ins.write(0, simd('i8x16.bitmask', ins.readV128(1)), 4)),
  ];
}

/** Element insertion and extraction; `name` to lanes and bytes of an element. */
const ELEMENTS = { b: ['i8x16', 1], w: ['i16x8', 2], d: ['i32x4', 4], q: ['i64x2', 8] } as const;

/** Element `index` (i32, below the number of lanes) of `v`, zero-extended. */
function elementAt(ins: Ins, shape: string, bytes: number, v: Expr, index: Expr): Expr {
  const extract = shape === 'i8x16' || shape === 'i16x8' ? 'extract_lane_u' : 'extract_lane';
  const fixed = constantOf(index);
  if (fixed !== undefined) return lane(`${shape}.${extract}`, fixed, v);
  const moved = simd('i8x16.add', iota(), simd('i8x16.splat', ins.f.let(index.mul(bytes))));
  return lane(`${shape}.${extract}`, 0, simd('i8x16.swizzle', v, moved));
}
const LANE_NUMBERS: Record<string, () => Expr> = {
  i8x16: iota,
  i16x8: () => words8(0, 1, 2, 3, 4, 5, 6, 7),
  i32x4: () => dwords4(0, 1, 2, 3),
  i64x2: () => qwords2(0n, 1n),
};
function replaceElement(shape: string, v: Expr, index: Expr, value: Expr): Expr {
  const fixed = constantOf(index);
  if (fixed !== undefined) return lane(`${shape}.replace_lane`, fixed, v, value);
  const number = shape === 'i64x2' ? index.i64u() : index;
  const here = simd(`${shape}.eq`, LANE_NUMBERS[shape](), simd(`${shape}.splat`, number));
  return simd('v128.bitselect', simd(`${shape}.splat`, value), v, here);
}

function elementMoves(): Semantics[] {
  const rows: Semantics[] = [];
  for (const [letter, [shape, bytes]] of Object.entries(ELEMENTS)) {
    const last = 16 / bytes - 1;
    const general = bytes === 8 ? 8 : 4;
    rows.push(
      row(`pinsr${letter}`, 'xri xmi', (ins) => {
        const value = ins.kinds[1] === 'm' ? ins.load(ins.address(1), bytes) : ins.read(1, general);
        const index = ins.f.let(immediate(ins, 2).and(last));
        ins.writeV128(0, replaceElement(shape, ins.readV128(0), index, value));
      }),
      row(`pextr${letter}`, 'rxi mxi', (ins) => {
        const index = ins.f.let(immediate(ins, 2).and(last));
        const value = ins.f.let(elementAt(ins, shape, bytes, ins.readV128(1), index));
        if (ins.kinds[0] === 'm') ins.store(ins.address(0), value, bytes);
        else ins.write(0, value, general);
      }),
    );
  }
  rows.push(
    row('extractps', 'rxi mxi', (ins) => {
      const index = ins.f.let(immediate(ins, 2).and(3));
      ins.write(0, ins.f.let(elementAt(ins, 'i32x4', 4, ins.readV128(1), index)), 4);
    }),
    row('insertps', 'xxi xmi', (ins) => {
      const imm = immediate(ins, 2);
      const value = ins.f.let(
        ins.kinds[1] === 'm'
          ? ins.readLow(1, 4)
          : elementAt(ins, 'i32x4', 4, ins.readV128(1), ins.f.let(imm.shrU(6))),
      );
      const inserted = replaceElement('i32x4', ins.readV128(0), ins.f.let(imm.shrU(4).and(3)), value);
      const bits = dwords4(1, 2, 4, 8);
      const kept = simd('i32x4.eq', simd('v128.and', simd('i32x4.splat', imm), bits), zero128());
      ins.writeV128(0, simd('v128.and', inserted, kept));
    }),
  );
  return rows;
}

/**
 * MASKMOVDQU and MASKMOVQ: stores the bytes whose mask byte is negative at DS:rDI (or the overriding segment).
 * Only those bytes are accessed.
 */
export function maskedStore(ins: Ins, value: Expr, mask: Expr, count: number): void {
  const { f } = ins;
  const selected = f.copy(simd('i8x16.bitmask', mask));
  if (count === 8) f.set(selected, selected.and(0xff));
  const bytes = f.copy(value);
  const start = f.copy(ins.reg(REG.DI, ins.addressSize).i64u());
  f.loop((again) => {
    f.if(selected, () => {
      const i = f.let(selected.ctz());
      f.set(selected, selected.and(selected.sub(1)));
      const at = ins.linear(ins.sourceBase(), start.add(i.i64u()));
      const moved = simd('i8x16.swizzle', bytes, simd('i8x16.splat', i));
      ins.store(at, f.let(lane('i8x16.extract_lane_u', 0, moved)), 1);
      f.br(again);
    });
  });
}

function control(): Semantics[] {
  return [
    row('ldmxcsr', 'm', (ins) => {
      const v = ins.load(ins.address(0), 4);
      ins.f.if(v.and(~MXCSR_VALID), () => ins.raise(GENERAL_PROTECTION, 0), undefined, false);
      ins.envStore(4, MXCSR_OFFSET, v);
    }),
    row('stmxcsr', 'm', (ins) => ins.store(ins.address(0), ins.f.let(ins.envLoad('i32', MXCSR_OFFSET)), 4)),
    {
      name: 'maskmovdqu',
      unit: 'sse',
      forms: ['xx'],
      sizes: [4],
      addressSizes: [2, 4, 8],
      // as a string instruction: the record holds the segment
      reps: [],
      emit: (ins) => maskedStore(ins, ins.readV128(0), ins.readV128(1), 16),
    },
  ];
}

export const MOVE_SEMANTICS: readonly Semantics[] = [
  ...wholeMoves(),
  scalarMove('movss', 4),
  scalarMove('movsd_xmm', 8),
  ...halfMoves(),
  ...duplicates(),
  ...generalMoves(),
  ...elementMoves(),
  ...control(),
];
