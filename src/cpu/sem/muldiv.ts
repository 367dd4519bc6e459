/** Multiplication and division. Source: Intel SDM vol. 2, MUL, IMUL, DIV, IDIV, MULX. */
import { type Expr, i32, i64 } from '../../wasm/index.ts';
import { mulHighSigned, mulHighUnsigned } from './product.ts';
import { type Ins, REG, type Semantics, signExtend } from './ins.ts';

const DIVIDE_ERROR = 0;

/** CF = OF = `overflow`; SF, ZF, PF follow the low half (they are undefined). */
function productFlags(ins: Ins, low: Expr, overflow: Expr): void {
  ins.flags.explicit(ins.size, low, overflow, overflow);
}

/** One-operand multiplication: rDX:rAX (AX for bytes) = rAX * operand. */
function multiply(name: string, signed: boolean): Semantics {
  return {
    name,
    forms: ['r', 'm'],
    sizes: [1, 2, 4, 8],
    setsAllFlags: true,
    emit(ins) {
      const { f, size } = ins;
      const bits = size * 8;
      const b = ins.read(0);
      const a = f.copy(ins.reg(REG.AX));
      if (size === 8) {
        const low = f.let(a.mul(b));
        const high = signed ? mulHighSigned(f, a, b) : mulHighUnsigned(f, a, b);
        ins.setReg(REG.AX, low);
        ins.setReg(REG.DX, high);
        productFlags(ins, low, signed ? high.ne(low.shrS(63)) : high.ne(0));
        return;
      }
      const wide = signed
        ? f.let(signExtend(a, size, 8).mul(signExtend(b, size, 8)))
        : f.let(a.i64u().mul(b.i64u()));
      if (size === 1) {
        ins.setReg(REG.AX, wide.i32().low(16), 2);
      } else {
        ins.setReg(REG.AX, wide.i32().low(bits));
        ins.setReg(REG.DX, wide.shrU(bits).i32().low(bits));
      }
      const fits = signed ? wide.eq(wide.sext(bits)) : wide.shrU(bits).eqz();
      productFlags(ins, f.let(wide.i32().low(bits)), fits.eqz());
    },
  };
}

/** IMUL r, r/m and IMUL r, r/m, imm. */
const TRUNCATING: Semantics = {
  name: 'imul',
  forms: ['rr', 'rm', 'rri', 'rmi'],
  sizes: [2, 4, 8],
  setsAllFlags: true,
  emit(ins) {
    const [a, b] = ins.kinds.length === 3 ? [ins.read(1), ins.read(2)] : [ins.read(0), ins.read(1)];
    const low = ins.f.let(ins.size === 8 ? a.mul(b) : a.mul(b).low(ins.size * 8));
    ins.flags.product(ins.size, a, b, low);
    ins.write(0, low);
  },
};

/** DIV of RDX:RAX by an i64. */
function divideLong(ins: Ins, divisor: Expr): void {
  const { f } = ins;
  const d = f.let(divisor);
  const low = f.copy(ins.reg(REG.AX));
  const high = f.copy(ins.reg(REG.DX));
  f.if(high.geU(d), () => ins.raise(DIVIDE_ERROR), undefined, false);
  const q = f.local('i64');
  f.if(
    high.eqz(),
    () => f.set(q, low.divU(d)),
    () => f.set(q, ins.divide128(high, low, d)),
  );
  ins.setReg(REG.AX, q);
  ins.setReg(REG.DX, low.sub(q.mul(d)));
}
/** IDIV of RDX:RAX by an i64. */
function divideSignedLong(ins: Ins, divisor: Expr): void {
  const { f } = ins;
  const d = f.let(divisor);
  const low = f.copy(ins.reg(REG.AX));
  const high = f.copy(ins.reg(REG.DX));
  const fails = (condition: Expr): void => f.if(condition, () => ins.raise(DIVIDE_ERROR), undefined, false);
  fails(d.eqz());
  const q = f.local('i64');
  f.if(
    high.eq(low.shrS(63)).and(d.ne(-1n)),
    () => f.set(q, low.divS(d)),
    () => {
      // of the magnitudes; a sign is 0 or -1
      const sign = f.let(high.shrS(63));
      const dSign = f.let(d.shrS(63));
      const lowPart = f.let(low.xor(sign).sub(sign));
      const highPart = f.let(high.xor(sign).add(low.eqz().i64u().and(sign)));
      const size = f.let(d.xor(dSign).sub(dSign));
      fails(highPart.geU(size));
      const magnitude = f.let(ins.divide128(highPart, lowPart, size));
      const qSign = f.let(sign.xor(dSign));
      f.set(q, magnitude.xor(qSign).sub(qSign));
      fails(magnitude.ne(0).and(q.xor(qSign).ltS(0)));
    },
    true,
  );
  ins.setReg(REG.AX, q);
  ins.setReg(REG.DX, low.sub(q.mul(d)));
}

/** DIV, IDIV: quotient and remainder of rDX:rAX (AX for bytes); #DE on zero or overflow. */
function divide(name: string, signed: boolean): Semantics {
  return {
    name,
    forms: ['r', 'm'],
    sizes: [1, 2, 4, 8],
    emit(ins) {
      const { f, size } = ins;
      const bits = size * 8;
      const divisor = ins.read(0);
      if (size === 8) return signed ? divideSignedLong(ins, divisor) : divideLong(ins, divisor);
      f.if(divisor.eqz(), () => ins.raise(DIVIDE_ERROR), undefined, false);
      const dividend =
        size === 1
          ? f.let(signed ? signExtend(ins.reg(REG.AX, 2), 2, 8) : ins.reg(REG.AX, 2).i64u())
          : size === 2
            ? f.let(
                signed
                  ? ins.reg(REG.DX).shl(16).or(ins.reg(REG.AX)).i64s()
                  : ins.reg(REG.DX).shl(16).or(ins.reg(REG.AX)).i64u(),
              )
            : f.let(ins.reg(REG.DX).i64u().shl(32).or(ins.reg(REG.AX).i64u()));
      const d = f.let(signed ? signExtend(divisor, size, 8) : divisor.i64u());
      if (signed) {
        const traps = d.eq(-1n).and(dividend.eq(i64(-(1n << 63n))));
        f.if(traps, () => ins.raise(DIVIDE_ERROR), undefined, false);
      }
      const q = f.let(signed ? dividend.divS(d) : dividend.divU(d));
      const overflow = signed ? q.ne(q.sext(bits)) : q.shrU(bits).ne(0);
      f.if(overflow, () => ins.raise(DIVIDE_ERROR), undefined, false);
      // not by a second division: V8 makes one of each
      const r = f.let(dividend.sub(q.mul(d)).i32().low(bits));
      const quotient = q.i32().low(bits);
      if (size === 1) {
        ins.setReg(REG.AX, quotient.or(r.shl(8)), 2);
      } else {
        ins.setReg(REG.AX, quotient);
        ins.setReg(REG.DX, r);
      }
    },
  };
}

/** AAM, AAD: immediate base; 32- and 16-bit modes only. */
const ASCII: readonly Semantics[] = [
  {
    name: 'aam',
    forms: ['i'],
    sizes: [1],
    emit(ins) {
      const { f } = ins;
      const base = ins.read(0);
      f.if(base.eqz(), () => ins.raise(DIVIDE_ERROR), undefined, false);
      const al = f.copy(ins.reg(REG.AX, 1));
      const low = f.let(al.remU(base));
      ins.setReg(REG.AX, al.divU(base).shl(8).or(low), 2);
      ins.flags.explicit(1, low, i32(0), i32(0));
    },
  },
  {
    name: 'aad',
    forms: ['i'],
    sizes: [1],
    emit(ins) {
      const { f } = ins;
      const ax = f.copy(ins.reg(REG.AX, 2));
      const low = f.let(ax.shrU(8).mul(ins.read(0)).add(ax).low(8));
      ins.setReg(REG.AX, low, 2);
      ins.flags.explicit(1, low, i32(0), i32(0));
    },
  },
];

export const MULDIV_SEMANTICS: readonly Semantics[] = [
  multiply('mul', false),
  multiply('imul1', true),
  TRUNCATING,
  divide('div', false),
  divide('idiv', true),
  ...ASCII,
];
