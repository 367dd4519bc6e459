/** High halves of products, and whether a product fits. Source: Intel SDM vol. 2, IMUL. */
import { type Expr, type FuncBuilder } from '../../wasm/index.ts';
import { signExtend } from './ins.ts';

const LOW32 = 0xffffffffn;

/** High 64 bits of the unsigned 128-bit product, bound. */
export function mulHighUnsigned(f: FuncBuilder, a: Expr, b: Expr): Expr {
  const al = f.let(a.and(LOW32));
  const ah = f.let(a.shrU(32));
  const bl = f.let(b.and(LOW32));
  const bh = f.let(b.shrU(32));
  const p1 = f.let(al.mul(bh));
  const p2 = f.let(ah.mul(bl));
  const middle = al.mul(bl).shrU(32).add(p1.and(LOW32)).add(p2.and(LOW32));
  return f.let(ah.mul(bh).add(p1.shrU(32)).add(p2.shrU(32)).add(middle.shrU(32)));
}
/** High 64 bits of the signed 128-bit product, bound. */
export function mulHighSigned(f: FuncBuilder, a: Expr, b: Expr): Expr {
  const high = mulHighUnsigned(f, a, b);
  return f.let(high.sub(a.shrS(63).and(b)).sub(b.shrS(63).and(a)));
}

/** Does the signed product of `size` bytes need more than its low half `low`? i32 0 or 1. */
export function productOverflows(f: FuncBuilder, size: number, a: Expr, b: Expr, low: Expr): Expr {
  if (size === 8) return mulHighSigned(f, a, b).ne(low.shrS(63));
  const wide = f.let(signExtend(a, size, 8).mul(signExtend(b, size, 8)));
  return wide.ne(wide.sext(size * 8));
}
