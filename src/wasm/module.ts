/** A WebAssembly module under construction. */
import { ByteWriter } from './bytes.ts';
import type { ValType } from './expr.ts';
import { FuncBuilder, type FuncRef, TYPE_CODE } from './func.ts';

export class ModuleBuilder {
  private readonly types: string[] = [];
  private readonly typeBytes = new ByteWriter();
  private readonly imports = new ByteWriter();
  private importCount = 0;
  private importedFuncs = 0;
  private readonly funcs: FuncBuilder[] = [];
  private readonly exports = new ByteWriter();
  private exportCount = 0;
  private tableSize: number | undefined;
  private readonly elements: { at: number; funcs: FuncRef[] }[] = [];

  typeIndex(params: readonly ValType[], results: readonly ValType[]): number {
    const key = `${params.join()}>${results.join()}`;
    let index = this.types.indexOf(key);
    if (index < 0) {
      index = this.types.push(key) - 1;
      this.typeBytes.byte(0x60);
      this.typeBytes.u32(params.length);
      for (const p of params) this.typeBytes.byte(TYPE_CODE[p]);
      this.typeBytes.u32(results.length);
      for (const r of results) this.typeBytes.byte(TYPE_CODE[r]);
    }
    return index;
  }

  /** Imports the machine's shared memory; limits in 64 KiB pages. */
  importMemory(module: string, name: string, minPages: number, maxPages: number): void {
    this.imports.name(module);
    this.imports.name(name);
    this.imports.bytes([0x02, 0x03]);
    this.imports.u32(minPages);
    this.imports.u32(maxPages);
    this.importCount++;
  }

  /** Imports come before the first own function. */
  importFunc(module: string, name: string, params: readonly ValType[], results: readonly ValType[]): FuncRef {
    if (this.funcs.length > 0) throw new Error('import after a function');
    this.imports.name(module);
    this.imports.name(name);
    this.imports.byte(0x00);
    this.imports.u32(this.typeIndex(params, results));
    this.importCount++;
    return { index: this.importedFuncs++, params, results };
  }

  importTable(module: string, name: string, min: number): void {
    this.imports.name(module);
    this.imports.name(name);
    this.imports.bytes([0x01, 0x70, 0x00]);
    this.imports.u32(min);
    this.importCount++;
  }

  func(name: string, params: readonly ValType[], results: readonly ValType[]): FuncBuilder {
    const f = new FuncBuilder(name, this.importedFuncs + this.funcs.length, params, results);
    this.funcs.push(f);
    return f;
  }

  exportFunc(name: string, f: FuncRef): void {
    this.exports.name(name);
    this.exports.byte(0x00);
    this.exports.u32(f.index);
    this.exportCount++;
  }

  exportTable(name: string): void {
    this.exports.name(name);
    this.exports.bytes([0x01, 0x00]);
    this.exportCount++;
  }

  /** An own function table of `size` entries. */
  table(size: number): void {
    this.tableSize = size;
  }
  /** Fills table entries from `at` on. */
  elementsAt(at: number, funcs: FuncRef[]): void {
    this.elements.push({ at, funcs });
  }

  build(): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter(65536);
    out.bytes([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
    const functions = new ByteWriter();
    functions.u32(this.funcs.length);
    for (const f of this.funcs) functions.u32(this.typeIndex(f.params, f.results));

    out.section(1, counted(this.types.length, this.typeBytes));
    if (this.importCount > 0) out.section(2, counted(this.importCount, this.imports));
    out.section(3, functions);
    if (this.tableSize !== undefined) {
      const table = new ByteWriter();
      table.bytes([1, 0x70, 0x00]);
      table.u32(this.tableSize);
      out.section(4, table);
    }
    if (this.exportCount > 0) out.section(7, counted(this.exportCount, this.exports));
    if (this.elements.length > 0) {
      const section = new ByteWriter();
      section.u32(this.elements.length);
      for (const e of this.elements) {
        section.bytes([0x00, 0x41]);
        section.s32(e.at);
        section.byte(0x0b);
        section.u32(e.funcs.length);
        for (const f of e.funcs) section.u32(f.index);
      }
      out.section(9, section);
    }
    const finished = this.funcs.map((f) => ({ index: f.index, ...f.finish() }));
    const hinted = finished.filter((f) => f.hints.length > 0);
    if (hinted.length > 0) {
      const hints = new ByteWriter();
      hints.name('metadata.code.branch_hint');
      hints.u32(hinted.length);
      for (const f of hinted) {
        hints.u32(f.index);
        hints.u32(f.hints.length);
        for (const h of f.hints) {
          hints.u32(h.at);
          hints.bytes([1, h.likely]);
        }
      }
      out.section(0, hints);
    }
    const code = new ByteWriter(65536);
    code.u32(finished.length);
    for (const f of finished) {
      code.u32(f.body.length);
      code.bytes(f.body.view());
    }
    out.section(10, code);
    const names = new ByteWriter();
    names.name('name');
    const functionNames = new ByteWriter();
    functionNames.u32(this.funcs.length);
    for (const f of this.funcs) {
      functionNames.u32(f.index);
      functionNames.name(f.name);
    }
    names.byte(1);
    names.u32(functionNames.length);
    names.bytes(functionNames.view());
    out.section(0, names);
    return out.view();
  }
}

function counted(count: number, content: ByteWriter): ByteWriter {
  const out = new ByteWriter(content.length + 8);
  out.u32(count);
  out.bytes(content.view());
  return out;
}
