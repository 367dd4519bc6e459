/**
 * Out-of-line functions that SIMD semantics share within one generated module: what is too long to
 * inline, and the exact slow paths of floating point. A function is emitted when first asked for.
 */
import type { Expr, FuncBuilder, FuncRef, ModuleBuilder, ValType } from '../../wasm/index.ts';

/** A shared function: its signature and the code that emits its body. */
export interface SharedFunction {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
  readonly emit: (f: FuncBuilder, functions: SimdFunctions) => void;
}
export type SharedFunctions = Readonly<Record<string, SharedFunction>>;

/** The shared functions of one module. */
export class SimdFunctions {
  private readonly module: ModuleBuilder;
  private readonly specs: SharedFunctions;
  private readonly emitted = new Map<string, FuncRef>();

  constructor(module: ModuleBuilder, specs: SharedFunctions) {
    this.module = module;
    this.specs = specs;
  }

  /** The function called `name`, emitted now if it was not yet. The module's imports must be complete. */
  get(name: string): FuncRef {
    let ref = this.emitted.get(name);
    if (ref === undefined) {
      const spec = this.specs[name];
      if (spec === undefined) throw new RangeError(`no shared function ${name}`);
      const f = this.module.func(name, spec.params, spec.results);
      this.emitted.set(name, f);
      ref = f;
      spec.emit(f, this);
    }
    return ref;
  }
  /** A call of the function called `name`; bind it with `let` where it is mentioned more than once. */
  call(f: FuncBuilder, name: string, ...args: Expr[]): Expr {
    return f.call(this.get(name), ...args);
  }
  /** Uses `ref` (an import, say) in place of an own copy of the function called `name`. */
  provide(name: string, ref: FuncRef): void {
    this.emitted.set(name, ref);
  }
  /** Names of all functions, with their signatures. */
  signatures(): SharedFunctions {
    return this.specs;
  }
}
