/** All semantics of MMX, SSE to SSE4.2, AES and PCLMULQDQ, and the functions they share. */
import type { ModuleBuilder } from '../../wasm/index.ts';
import type { Semantics } from './ins.ts';
import { MMX_SEMANTICS } from './mmx.ts';
import { FLOAT_FUNCTIONS } from './simd-float-ops.ts';
import { type SharedFunctions, SimdFunctions } from './simd-functions.ts';
import { makeConversionSemantics } from './sse-convert.ts';
import { CRYPTO_FUNCTIONS, makeCryptoSemantics } from './sse-crypto.ts';
import { makeFloatSemantics } from './sse-float.ts';
import { INTEGER_FUNCTIONS, makeIntegerSemantics } from './sse-integer.ts';
import { MOVE_SEMANTICS } from './sse-move.ts';
import { makeStringCompareSemantics, STRING_FUNCTIONS } from './sse-string.ts';

const FUNCTIONS: SharedFunctions = {
  ...FLOAT_FUNCTIONS,
  ...INTEGER_FUNCTIONS,
  ...CRYPTO_FUNCTIONS,
  ...STRING_FUNCTIONS,
};

/** The functions that SIMD semantics share, for one module; each is added to it when first used. */
export function emitSimdFunctions(m: ModuleBuilder): SimdFunctions {
  return new SimdFunctions(m, FUNCTIONS);
}
/** SSE semantics that emit into the module `functions` belongs to. */
export function makeSseSemantics(functions: SimdFunctions): Semantics[] {
  return [
    ...MOVE_SEMANTICS,
    ...makeIntegerSemantics(functions),
    ...makeFloatSemantics(functions),
    ...makeConversionSemantics(functions),
    ...makeStringCompareSemantics(functions),
    ...makeCryptoSemantics(functions),
  ];
}
/** Everything here for one module. */
export function makeSimdSemantics(m: ModuleBuilder): Semantics[] {
  return [...makeSseSemantics(emitSimdFunctions(m)), ...MMX_SEMANTICS];
}
export { MMX_SEMANTICS, SimdFunctions };
