/**
 * Forces V8's optimising compiler on a wasm function that never returns soon enough to be noticed by itself.
 * Flags are process-wide: this turns `--allow-natives-syntax` on.
 */
import v8 from 'node:v8';

let force: ((f: unknown) => void) | undefined;
let optimised: ((f: unknown) => boolean) | undefined;

/** *May block:* for the compilation (about a second for the interpreter's main loop, once per module and process). */
export function tierUp(f: unknown): void {
  if (force === undefined) {
    v8.setFlagsFromString('--allow-natives-syntax');
    force = new Function('f', '%WasmTierUpFunction(f)') as (f: unknown) => void;
    optimised = new Function('f', 'return %IsTurboFanFunction(f)') as (f: unknown) => boolean;
  }
  force(f);
}

/** True when V8's optimising compiler made the code of a function that `tierUp` was called for. */
export function isOptimised(f: unknown): boolean {
  return optimised?.(f) ?? false;
}
