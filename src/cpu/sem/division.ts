/** Division of 128 bits by 64. Source: Knuth, TAOCP vol. 2, 4.3.1, algorithm D. */
import { type Expr, type FuncBuilder, i64, type Local } from '../../wasm/index.ts';

const LOW32 = 0xffffffffn;

/** Quotient of `high`:`low` by `d`, whose top bit is set; `high` < `d`, and becomes the remainder. All i64. */
export function longDivision(f: FuncBuilder, high: Local, low: Expr, d: Expr): Local {
  const dHigh = f.copy(d.shrU(32));
  const dLow = f.copy(d.and(LOW32));
  const q = f.local('i64');
  const r = f.local('i64');
  const quotient = f.copy(i64(0));
  // two steps of 96 by 64 bits
  for (const next of [low.shrU(32), low.and(LOW32)]) {
    const digit = f.copy(next);
    f.set(q, high.divU(dHigh));
    f.set(r, high.sub(q.mul(dHigh)));
    f.block((done) => {
      f.loop((again) => {
        const fits = q.mul(dLow).leU(r.shl(32).or(digit));
        f.brIf(done, q.shrU(32).eqz().and(fits));
        f.set(q, q.sub(1));
        f.set(r, r.add(dHigh));
        f.brIf(again, r.shrU(32).eqz());
      });
    });
    f.set(high, high.shl(32).or(digit).sub(q.mul(d)));
    f.set(quotient, quotient.shl(32).or(q));
  }
  return quotient;
}

/** Emits the body of a function (high, low, divisor) → quotient, unsigned; `high` < `divisor`. */
export function emitDivide128(f: FuncBuilder): void {
  const [high, low, divisor] = [f.param(0), f.param(1), f.param(2)];
  const shift = f.copy(divisor.clz());
  const carried = low.shrU(1).shrU(i64(63).sub(shift));
  const top = f.copy(high.shl(shift).or(carried));
  f.ret(longDivision(f, top, f.copy(low.shl(shift)), f.copy(divisor.shl(shift))));
}
