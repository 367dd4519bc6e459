/** Where an image's metadata lies, so that no write goes over it by mistake. */

/** Kinds of metadata, as bits; the names are those of the `overlap-check.*` options. */
export const METADATA = {
  mainHeader: 1,
  activeL1: 2,
  activeL2: 4,
  refcountTable: 8,
  refcountBlock: 16,
  snapshotTable: 32,
  inactiveL1: 64,
  inactiveL2: 128,
  bitmapDirectory: 256,
} as const;

const NAMES = new Map<number, string>([
  [METADATA.mainHeader, 'qcow2_header'],
  [METADATA.activeL1, 'active L1 table'],
  [METADATA.activeL2, 'active L2 table'],
  [METADATA.refcountTable, 'refcount table'],
  [METADATA.refcountBlock, 'refcount block'],
  [METADATA.snapshotTable, 'snapshot table'],
  [METADATA.inactiveL1, 'inactive L1 table'],
  [METADATA.inactiveL2, 'inactive L2 table'],
  [METADATA.bitmapDirectory, 'bitmap directory'],
]);

const CONSTANT =
  METADATA.mainHeader |
  METADATA.activeL1 |
  METADATA.refcountTable |
  METADATA.snapshotTable |
  METADATA.bitmapDirectory;
const CACHED = CONSTANT | METADATA.activeL2 | METADATA.refcountBlock | METADATA.inactiveL1;

/** Values of the `overlap-check` option. */
export const OVERLAP_TEMPLATES: Readonly<Record<string, number>> = {
  none: 0,
  constant: CONSTANT,
  cached: CACHED,
  all: CACHED | METADATA.inactiveL2,
};

/** Bits of the `overlap-check.*` options. */
export const OVERLAP_OPTIONS: Readonly<Record<string, number>> = {
  'main-header': METADATA.mainHeader,
  'active-l1': METADATA.activeL1,
  'active-l2': METADATA.activeL2,
  'refcount-table': METADATA.refcountTable,
  'refcount-block': METADATA.refcountBlock,
  'snapshot-table': METADATA.snapshotTable,
  'inactive-l1': METADATA.inactiveL1,
  'inactive-l2': METADATA.inactiveL2,
  'bitmap-directory': METADATA.bitmapDirectory,
};

/** What QEMU calls one kind (the first set bit of `kinds`). */
export function metadataName(kinds: number): string {
  return NAMES.get(kinds & -kinds) ?? 'metadata';
}

/** Adds clusters [first, first + count) of a kind. */
export type AddRange = (kind: number, first: number, count: number) => void;

const KIND_FACTOR = 512;

/**
 * The metadata's clusters, sorted, 8 bytes each, built when first asked for; what comes later is in a small map.
 * *Thread:* the node's.
 */
export class OverlapIndex {
  /** cluster * 512 + kinds. */
  #sorted: Float64Array | undefined;
  readonly #recent = new Map<number, number>();
  readonly #collect: (add: AddRange) => void;
  readonly #mask: number;

  /** `collect` names all there is; `mask`: the kinds to look for. */
  constructor(mask: number, collect: (add: AddRange) => void) {
    this.#mask = mask;
    this.#collect = collect;
  }

  /** Something that was metadata is not any more, or much has changed. */
  invalidate(): void {
    this.#sorted = undefined;
    this.#recent.clear();
  }

  /** One more cluster of metadata. */
  add(kind: number, cluster: number): void {
    if (!this.#sorted || (kind & this.#mask) === 0) return;
    this.#recent.set(cluster, (this.#recent.get(cluster) ?? 0) | kind);
    if (this.#recent.size > 4096) this.invalidate();
  }

  #build(): Float64Array {
    let total = 0;
    this.#collect((kind, _first, count) => {
      if (kind & this.#mask) total += count;
    });
    const all = new Float64Array(total);
    let at = 0;
    this.#collect((kind, first, count) => {
      if ((kind & this.#mask) === 0) return;
      for (let i = 0; i < count; i++) all[at++] = (first + i) * KIND_FACTOR + kind;
    });
    all.sort();
    this.#sorted = all;
    return all;
  }

  /** Kinds of metadata in clusters [first, first + count), but for `ignore`. */
  find(first: number, count: number, ignore: number): number {
    if (this.#mask === 0) return 0;
    const sorted = this.#sorted ?? this.#build();
    let low = 0;
    let high = sorted.length;
    const from = first * KIND_FACTOR;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sorted[middle] < from) low = middle + 1;
      else high = middle;
    }
    const end = (first + count) * KIND_FACTOR;
    for (; low < sorted.length && sorted[low] < end; low++) {
      const kinds = (sorted[low] % KIND_FACTOR) & ~ignore;
      if (kinds !== 0) return kinds;
    }
    if (this.#recent.size > 0) {
      for (let i = 0; i < count; i++) {
        const kinds = (this.#recent.get(first + i) ?? 0) & ~ignore;
        if (kinds !== 0) return kinds;
      }
    }
    return 0;
  }
}
