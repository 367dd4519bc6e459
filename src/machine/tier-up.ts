/**
 * Forces V8's optimising compiler on a wasm function that never returns soon enough to be noticed by itself.
 * Flags are process-wide: this turns `--allow-natives-syntax` on.
 */
import v8 from 'node:v8';

interface Natives {
  readonly force: (f: unknown) => void;
  readonly optimised: (f: unknown) => boolean;
}
let natives: Natives | undefined;

function getNatives(): Natives {
  if (natives === undefined) {
    v8.setFlagsFromString('--allow-natives-syntax');
    natives = {
      force: new Function('f', '%WasmTierUpFunction(f)') as Natives['force'],
      optimised: new Function('f', 'return %IsTurboFanFunction(f)') as Natives['optimised'],
    };
  }
  return natives;
}

/** *May block:* for the compilation (about a second for the interpreter's main loop, once per module and process). */
export function tierUp(f: unknown): void {
  getNatives().force(f);
}

/** True when V8's optimising compiler has made the code of an exported wasm function, whichever thread asked for it. */
export function isOptimised(f: unknown): boolean {
  return getNatives().optimised(f);
}
