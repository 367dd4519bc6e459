/** Options of nodes as `-blockdev`, `-drive`, `--image-opts` and `json:` names give them. */
import { BlockError } from './errors.ts';

/** `{ driver: 'qcow2', file: { driver: 'file', filename: … }, 'l2-cache-size': '1M' }`; also with dotted keys. */
export interface OptionTree {
  readonly [key: string]: OptionValue;
}
export type OptionValue = string | number | boolean | null | OptionTree | readonly OptionValue[];

/** All of `tree` as dotted keys with texts; booleans as on and off. */
export function flattenOptions(tree: OptionTree): Map<string, string> {
  const result = new Map<string, string>();
  const add = (prefix: string, value: OptionValue): void => {
    if (value === null) result.set(prefix, '');
    else if (typeof value === 'boolean') result.set(prefix, value ? 'on' : 'off');
    else if (typeof value === 'object') {
      for (const [key, each] of Object.entries(value)) add(prefix === '' ? key : `${prefix}.${key}`, each);
    } else result.set(prefix, String(value));
  };
  add('', tree);
  return result;
}

const UNITS: Readonly<Record<string, number>> = { '': 0, b: 0, k: 1, m: 2, g: 3, t: 4, p: 5, e: 6 };

/** Bytes that `text` says (`64M`, `1.5G`, `0x200`); undefined when it is no size. */
export function parseByteSize(text: string): number | undefined {
  if (/^0x[0-9a-f]+$/i.test(text)) return Number(text);
  const match = /^(\d+(?:\.\d*)?)([bkmgtpe]?)$/i.exec(text);
  if (!match) return undefined;
  const value = Number(match[1]) * 1024 ** UNITS[match[2].toLowerCase()];
  return Number.isInteger(value) || match[2] !== '' ? Math.round(value) : undefined;
}

/** Options of one node; each is taken once, and what nobody took is an error. */
export class NodeOptions {
  readonly #values: Map<string, string>;

  constructor(values: Map<string, string>) {
    this.#values = values;
  }

  static from(tree: OptionTree): NodeOptions {
    return new NodeOptions(flattenOptions(tree));
  }

  /** One more option; one that is there stays. */
  add(key: string, value: string): void {
    if (!this.#values.has(key)) this.#values.set(key, value);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  text(key: string): string | undefined {
    const value = this.#values.get(key);
    this.#values.delete(key);
    return value;
  }

  boolean(key: string): boolean | undefined {
    const value = this.text(key);
    if (value === undefined) return undefined;
    if (value === 'on' || value === 'true' || value === 'yes' || value === 'y') return true;
    if (value === 'off' || value === 'false' || value === 'no' || value === 'n') return false;
    throw new BlockError('EINVAL', `Parameter '${key}' expects 'on' or 'off'`);
  }

  size(key: string): number | undefined {
    const value = this.text(key);
    if (value === undefined) return undefined;
    const bytes = parseByteSize(value);
    if (bytes === undefined) {
      throw new BlockError('EINVAL', `Parameter '${key}' expects a non-negative number below 2^64`);
    }
    return bytes;
  }

  /** The options under `prefix.`, taken. */
  sub(prefix: string): NodeOptions {
    const result = new Map<string, string>();
    for (const [key, value] of this.#values) {
      if (!key.startsWith(`${prefix}.`)) continue;
      result.set(key.slice(prefix.length + 1), value);
      this.#values.delete(key);
    }
    return new NodeOptions(result);
  }

  get empty(): boolean {
    return this.#values.size === 0;
  }

  /** Throws for the first option that was not taken. `kind`: `format` or `protocol`. */
  finish(kind: 'format' | 'protocol', driver: string): void {
    for (const key of this.#values.keys()) {
      throw new BlockError('EINVAL', `Block ${kind} '${driver}' does not support the option '${key}'`);
    }
  }
}
