/** `node:ffi`, which Node has from version 26 on. */
import { createRequire } from 'node:module';
import type * as Ffi from 'node:ffi';

/**
 * It says that it is experimental when it is loaded; smp86 has a way without it, so its users need not know. Undefined: this
 * Node has it not. *Thread:* any.
 */
export function loadFfi(): typeof Ffi | undefined {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return createRequire(import.meta.url)('node:ffi') as typeof Ffi;
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}
