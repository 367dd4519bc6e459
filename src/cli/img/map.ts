/** `smp86 img map`: where an image's data lies. */
import type { BlockNode } from '../../block/node.ts';
import { ChainStatusReader } from './chain-status.ts';
import { commandArguments, type CommandContext, IMAGE_OPTIONS, oneFile, outputFormat } from './command.ts';
import { ImgError } from './img-error.ts';
import { openImage } from './images.ts';
import { convertNumber } from './sizes.ts';

interface MapEntry {
  start: number;
  length: number;
  depth: number;
  present: boolean;
  zero: boolean;
  data: boolean;
  offset: number | undefined;
  filename: string | undefined;
}

/** Most of one look at the image. */
const CHUNK = 2 ** 30;

export async function runMap(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'f:s:l:hU',
    long: {
      ...IMAGE_OPTIONS,
      output: { kind: 'value' },
      'start-offset': { as: 's', kind: 'value' },
      'max-length': { as: 'l', kind: 'value' },
    },
  });
  const start = given.last('s', (text) => convertNumber('start offset', text)) ?? 0;
  const limit = given.last('l', (text) => convertNumber('max length', text));
  const filename = oneFile(given);
  const json = outputFormat(given) === 'json';
  const image = await openImage(context, filename, given.image());
  try {
    const end = limit === undefined ? image.size : Math.min(image.size, start + limit);
    return await printMap(context, image, start, end, json);
  } finally {
    await image.close();
  }
}

async function printMap(
  { output }: CommandContext,
  image: BlockNode,
  start: number,
  end: number,
  json: boolean,
): Promise<number> {
  output.out(json ? '[' : row('Offset', 'Length', 'Mapped to', 'File'));
  let separator = '';
  const print = (entry: MapEntry): void => {
    if (json) {
      output.out(`${separator}${jsonEntry(entry)}`);
      separator = ',\n';
    } else if (entry.data && !entry.zero) {
      if (entry.offset === undefined) {
        throw new ImgError('File contains external, encrypted or compressed clusters.');
      }
      output.out(row(hex(entry.start), hex(entry.length), hex(entry.offset), entry.filename ?? ''));
    }
  };

  const reader = new ChainStatusReader();
  let current: MapEntry | undefined;
  for (let at = start; at < end;) {
    const next = await entryAt(reader, image, at, Math.min(CHUNK, end - at));
    at += next.length;
    if (current !== undefined && continues(current, next)) {
      current.length += next.length;
    } else {
      if (current !== undefined) print(current);
      current = next;
    }
  }
  print(current ?? nothingAt(start));
  if (json) output.out(']\n');
  return 0;
}

/** What there is where the image has ended. */
function nothingAt(start: number): MapEntry {
  return {
    start,
    length: 0,
    depth: 0,
    present: false,
    zero: false,
    data: false,
    offset: undefined,
    filename: undefined,
  };
}

async function entryAt(
  reader: ChainStatusReader,
  image: BlockNode,
  start: number,
  length: number,
): Promise<MapEntry> {
  const status = await reader.read(image, undefined, start, length);
  return {
    start,
    length: status.length,
    depth: status.depth,
    present: status.allocated,
    zero: status.zero,
    data: status.data,
    offset: status.fileOffset,
    filename: status.file?.filename,
  };
}

function continues(a: MapEntry, b: MapEntry): boolean {
  return (
    a.depth === b.depth &&
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.filename === b.filename &&
    (a.offset === undefined ? b.offset === undefined : b.offset === a.offset + a.length)
  );
}

function row(...[offset, length, mapped, file]: [string, string, string, string]): string {
  return `${offset.padEnd(16)}${length.padEnd(16)}${mapped.padEnd(16)}${file}\n`;
}

/** printf's %#x. */
function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}

function jsonEntry({ start, length, depth, present, zero, data, offset }: MapEntry): string {
  const tail = offset === undefined ? '' : `, "offset": ${offset}`;
  return (
    `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, ` +
    `"zero": ${zero}, "data": ${data}${tail}}`
  );
}
