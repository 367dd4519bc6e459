/** Options of formats (`-o`): which there are, their types, and what is printed of them. */
import { splitCommas } from '../option-values.ts';
import { ImgError } from './img-error.ts';
import { parseSize } from './sizes.ts';

type OptionType = 'str' | 'bool' | 'size' | 'num';

interface OptionSpec {
  readonly type: OptionType;
  readonly help: string;
  /** Shown in "Formatting …" also when not given. */
  readonly preset?: string;
}

type OptionTable = Readonly<Record<string, OptionSpec>>;

const SIZE: OptionSpec = { type: 'size', help: 'Virtual disk size' };

/** In the order in which "Formatting …" prints them. */
const QCOW2: OptionTable = {
  encryption: {
    type: 'bool',
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  'encrypt.format': { type: 'str', help: "Encrypt the image, format choices: 'aes', 'luks'" },
  'encrypt.key-secret': { type: 'str', help: 'ID of secret providing qcow AES key or LUKS passphrase' },
  'encrypt.cipher-alg': { type: 'str', help: 'Name of encryption cipher algorithm' },
  'encrypt.cipher-mode': { type: 'str', help: 'Name of encryption cipher mode' },
  'encrypt.ivgen-alg': { type: 'str', help: 'Name of IV generator algorithm' },
  'encrypt.ivgen-hash-alg': { type: 'str', help: 'Name of IV generator hash algorithm' },
  'encrypt.hash-alg': { type: 'str', help: 'Name of encryption hash algorithm' },
  'encrypt.iter-time': { type: 'num', help: 'Time to spend in PBKDF in milliseconds' },
  cluster_size: { type: 'size', help: 'qcow2 cluster size', preset: '65536' },
  extended_l2: { type: 'bool', help: 'Extended L2 tables', preset: 'off' },
  preallocation: { type: 'str', help: 'Preallocation mode (allowed values: off, metadata, falloc, full)' },
  compression_type: {
    type: 'str',
    help: 'Compression method used for image cluster compression',
    preset: 'zlib',
  },
  size: SIZE,
  compat: { type: 'str', help: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
  backing_file: { type: 'str', help: 'File name of a base image' },
  backing_fmt: { type: 'str', help: 'Image format of the base image' },
  data_file: { type: 'str', help: 'File name of an external data file' },
  data_file_raw: { type: 'bool', help: 'The external data file must stay valid as a raw image' },
  lazy_refcounts: { type: 'bool', help: 'Postpone refcount updates', preset: 'off' },
  refcount_bits: { type: 'num', help: 'Width of a reference count entry in bits', preset: '16' },
};

const RAW: OptionTable = { size: SIZE };

/** What the host file adds. */
const FILE: OptionTable = {
  size: SIZE,
  preallocation: { type: 'str', help: 'Preallocation mode (allowed values: off, falloc, full)' },
  nocow: { type: 'bool', help: 'Turn off copy-on-write (valid only on btrfs)' },
  extent_size_hint: { type: 'size', help: 'Extent size hint for the image file, 0 to disable' },
};

/** What `amend` may change. */
const QCOW2_AMEND: OptionTable = {
  backing_file: QCOW2.backing_file,
  backing_fmt: QCOW2.backing_fmt,
  compat: QCOW2.compat,
  data_file: QCOW2.data_file,
  data_file_raw: QCOW2.data_file_raw,
  'encrypt.iter-time': QCOW2['encrypt.iter-time'],
  'encrypt.keyslot': { type: 'num', help: 'Select a single keyslot to modify explicitly' },
  'encrypt.new-secret': {
    type: 'str',
    help: 'New secret to set in the matching keyslots. Empty string to erase',
  },
  'encrypt.old-secret': { type: 'str', help: 'Select all keyslots that match this password' },
  'encrypt.state': { type: 'str', help: 'Select new state of affected keyslots (active/inactive)' },
  lazy_refcounts: QCOW2.lazy_refcounts,
  refcount_bits: QCOW2.refcount_bits,
  size: SIZE,
};

const FORMATS: Readonly<Record<string, OptionTable>> = { qcow2: QCOW2, raw: RAW };

/** Formats that smp86 reads and writes. */
export function isFormat(name: string): boolean {
  return Object.hasOwn(FORMATS, name);
}

/** With the options of the host file below it; an option of the format hides the file's of that name. */
export function createTable(format: string): OptionTable {
  return {
    ...FORMATS[format],
    ...Object.fromEntries(Object.entries(FILE).filter(([n]) => !(n in FORMATS[format]))),
  };
}

export function formatTable(format: string): OptionTable {
  return FORMATS[format];
}

export function amendTable(): OptionTable {
  return QCOW2_AMEND;
}

export function isHelp(text: string): boolean {
  return splitCommas(text).some((part) => part === 'help' || part === '?');
}

const TYPE_NAMES: Readonly<Record<OptionType, string>> = {
  str: '<str>',
  bool: '<bool (on/off)>',
  size: '<size>',
  num: '<num>',
};

/** A line for each option, by name. */
export function tableHelp(table: OptionTable): string {
  return Object.entries(table)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { type, help }]) => `  ${`${name}=${TYPE_NAMES[type]}`.padEnd(22)} - ${help}\n`)
    .join('');
}

const NOT_A_SIZE =
  'expects a non-negative number below 2^64\n' +
  'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
  'and exabytes, respectively.';

/** Of a parameter of type size. Throws ImgError with QEMU's text. */
export function parseSizeOption(name: string, text: string): bigint {
  const size = parseSize(text);
  if (size === 'syntax') throw new ImgError(`Parameter '${name}' ${NOT_A_SIZE}`);
  if (size === 'range') throw new ImgError(`Value '${text}' is out of range for parameter '${name}'`);
  return size;
}

function canonical(name: string, type: OptionType, text: string): string {
  if (type === 'size') return String(parseSizeOption(name, text));
  if (type === 'num') {
    if (!/^\s*\+?(0[xX][0-9a-fA-F]+|\d+)$/.test(text))
      throw new ImgError(`Parameter '${name}' expects a number`);
    return String(BigInt(text.trim().replace('+', '')));
  }
  if (type === 'bool' && text !== 'on' && text !== 'off') {
    throw new ImgError(`Parameter '${name}' expects 'on' or 'off'`);
  }
  return text;
}

/** Values by name, numbers and sizes in decimal. Of equal names the last counts. */
export type FormatOptions = Map<string, string>;

/** Parses `name=value,…` into `options`. *Errors:* ImgError. */
export function parseFormatOptions(text: string, table: OptionTable, options: FormatOptions): void {
  for (const part of splitCommas(text)) {
    const equals = part.indexOf('=');
    // a bare name is a switch, and `no` before it turns it off
    const bare = part.startsWith('no') && !Object.hasOwn(table, part) ? [part.slice(2), 'off'] : [part, 'on'];
    const [name, value] = equals < 0 ? bare : [part.slice(0, equals), part.slice(equals + 1)];
    if (!Object.hasOwn(table, name)) throw new ImgError(`Invalid parameter '${equals < 0 ? part : name}'`);
    options.set(name, canonical(name, table[name].type, value));
  }
}

/** `-o` may be given more than once. *Errors:* ImgError for a list that is empty or begins or ends with a comma. */
export function joinOptionLists(lists: readonly string[]): string | undefined {
  for (const list of lists) {
    if (list === '' || list.startsWith(',') || /(?<!,)(,,)*,$/.test(list)) {
      throw new ImgError(`Invalid option list: ${list}`);
    }
  }
  return lists.length === 0 ? undefined : lists.join(',');
}

/** ` name=value` for each option that was given or has a preset, in the table's order. */
export function optionsText(table: OptionTable, options: FormatOptions): string {
  return Object.entries(table)
    .map(([name, { preset }]) => [name, options.get(name) ?? preset])
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${value?.replaceAll(',', ',,')}`)
    .join('');
}
