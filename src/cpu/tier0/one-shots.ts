/**
 * Instructions that were translated to be executed alone: those that cross a page's end, before they are decoded for
 * good, that a region leaves to tier 0, that are stepped. They are executed again and again at the same place, so their records are kept, and are good as
 * long as the bytes are the same; nothing needs to invalidate them.
 */

/** A translated instruction. */
export class OneShot {
  readonly host: number;
  readonly codeKind: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  readonly records: Uint8Array;
  /** How often it was found again, unchanged. */
  uses = 0;

  /** `bytes`: the instruction's; `records`: what it was translated to, ended by the pseudo record `end`. */
  constructor(host: number, codeKind: number, end: number, bytes: Uint8Array, records: Uint8Array) {
    this.host = host;
    this.codeKind = codeKind;
    this.end = end;
    this.bytes = bytes;
    this.records = records;
  }

  /** Are the instruction's bytes `from` to `to` (of those it has) those at wasm address `at`? */
  matches(memory: Uint8Array, at: number, from: number, to: number): boolean {
    const { bytes } = this;
    const last = Math.min(to, bytes.length);
    for (let i = from; i < last; i++) if (bytes[i] !== memory[at + i - from]) return false;
    return true;
  }
}

const ENTRIES = 1024;

/** *Thread:* a vCPU worker's own. */
export class OneShots {
  private readonly entries: (OneShot | undefined)[] = new Array<OneShot | undefined>(ENTRIES).fill(undefined);

  private static slot(host: number): number {
    return (host ^ (host >>> 10)) & (ENTRIES - 1);
  }

  /** What was last translated at wasm address `host`; its bytes are still to be compared. */
  find(host: number, codeKind: number, end: number): OneShot | undefined {
    const entry = this.entries[OneShots.slot(host)];
    if (entry === undefined || entry.host !== host || entry.codeKind !== codeKind || entry.end !== end) {
      return undefined;
    }
    return entry;
  }
  add(entry: OneShot): void {
    this.entries[OneShots.slot(entry.host)] = entry;
  }
}
