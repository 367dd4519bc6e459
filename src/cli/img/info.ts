/** `smp86 img info`. */
import type { BlockNode } from '../../block/node.ts';
import { AUTOCLEAR, COMPATIBLE, INCOMPATIBLE } from '../../block/qcow2/format.ts';
import type { Qcow2Header } from '../../block/qcow2/header.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import type { Snapshot } from '../../block/qcow2/snapshot-table.ts';
import {
  commandArguments,
  type CommandContext,
  IMAGE_OPTIONS,
  type ImageChoice,
  oneFile,
} from './command.ts';
import { outputFormat } from './command.ts';
import { ImgError } from './img-error.ts';
import { backingPath, openImage } from './images.ts';
import { jsonText } from './output.ts';
import { sizeText } from './sizes.ts';
import { snapshotRecord, snapshotTable } from './snapshot-list.ts';

/** What is said of one image. */
interface ImageInfo {
  readonly filename: string;
  readonly format: string;
  readonly size: number;
  readonly actualSize: number;
  readonly qcow2?: { readonly header: Qcow2Header; readonly snapshots: readonly Snapshot[] };
  /** Path of the backing file as it would be opened. */
  readonly backing?: string;
}

export async function runInfo(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'hf:U',
    long: {
      ...IMAGE_OPTIONS,
      format: { as: 'f', kind: 'value' },
      output: { kind: 'value' },
      'backing-chain': { kind: 'none' },
    },
  });
  const filename = oneFile(given);
  const json = outputFormat(given) === 'json';
  const chain = given.has('backing-chain');
  const infos = await collect(context, filename, given.image(), chain);
  if (json) {
    const records = infos.map(jsonInfo);
    context.output.out(jsonText(chain ? records : records[0]));
  } else {
    context.output.out(infos.map(humanInfo).join('\n'));
  }
  return 0;
}

async function collect(
  context: CommandContext,
  filename: string,
  choice: ImageChoice,
  chain: boolean,
): Promise<ImageInfo[]> {
  const infos: ImageInfo[] = [];
  const seen = new Set<string>();
  let next: { name: string; choice: ImageChoice } | undefined = { name: filename, choice };
  while (next !== undefined) {
    const { name, choice: how }: { name: string; choice: ImageChoice } = next;
    if (seen.has(name)) throw new ImgError(`Backing file '${name}' creates an infinite loop.`);
    seen.add(name);
    const image = await openImage(context, name, { ...how, noBacking: true, user: 'info' });
    let info: ImageInfo;
    try {
      info = await describe(image);
    } finally {
      await image.close();
    }
    infos.push(info);
    const format = info.qcow2?.header.backingFormat;
    const backing = chain ? info.backing : undefined;
    next =
      backing === undefined
        ? undefined
        : {
            name: backing,
            choice: {
              format: format === '' ? undefined : format,
              imageOpts: false,
              forceShare: how.forceShare,
            },
          };
  }
  return infos;
}

async function describe(image: BlockNode): Promise<ImageInfo> {
  const { filename, driver: format, size } = image;
  const actualSize = await image.allocatedSize();
  if (!(image instanceof Qcow2Node)) return { filename, format, size, actualSize };
  const { header, snapshots } = image.state;
  const backing = header.backingFile === '' ? undefined : backingPath(filename, header.backingFile);
  return { filename, format, size, actualSize, qcow2: { header, snapshots }, backing };
}

function has(set: bigint, bit: bigint): boolean {
  return (set & bit) !== 0n;
}

/** What only qcow2 has, by QMP's names. */
function specific(header: Qcow2Header): Record<string, string | number | boolean | undefined> {
  const compression = { 'compression-type': header.compressionType === 1 ? 'zstd' : 'zlib' };
  const refcounts = { 'refcount-bits': 2 ** header.refcountOrder };
  if (header.version < 3) return { compat: '0.10', ...compression, ...refcounts };
  const dataFile = has(header.incompatible, INCOMPATIBLE.dataFile)
    ? { 'data-file': header.dataFile, 'data-file-raw': has(header.autoclear, AUTOCLEAR.dataFileRaw) }
    : {};
  return {
    compat: '1.1',
    ...compression,
    'lazy-refcounts': has(header.compatible, COMPATIBLE.lazyRefcounts),
    ...refcounts,
    ...dataFile,
    corrupt: has(header.incompatible, INCOMPATIBLE.corrupt),
    'extended-l2': has(header.incompatible, INCOMPATIBLE.extendedL2),
  };
}

function jsonInfo({ filename, format, size, actualSize, qcow2, backing }: ImageInfo): object {
  const header = qcow2?.header;
  return {
    ...(header !== undefined &&
      header.backingFormat !== '' && { 'backing-filename-format': header.backingFormat }),
    ...(qcow2 !== undefined &&
      qcow2.snapshots.length > 0 && { snapshots: qcow2.snapshots.map(snapshotRecord) }),
    'virtual-size': size,
    filename,
    ...(header !== undefined && { 'cluster-size': 2 ** header.clusterBits }),
    format,
    'actual-size': actualSize,
    ...(header !== undefined && { 'format-specific': { type: format, data: specific(header) } }),
    ...(backing !== undefined && { 'full-backing-filename': backing }),
    ...(header !== undefined && header.backingFile !== '' && { 'backing-filename': header.backingFile }),
    'dirty-flag': header !== undefined && has(header.incompatible, INCOMPATIBLE.dirty),
  };
}

function humanInfo({ filename, format, size, actualSize, qcow2, backing }: ImageInfo): string {
  const lines = [
    `image: ${filename}`,
    `file format: ${format}`,
    `virtual size: ${sizeText(size)} (${size} bytes)`,
    `disk size: ${sizeText(actualSize)}`,
  ];
  if (qcow2 === undefined) return `${lines.join('\n')}\n`;
  const { header, snapshots } = qcow2;
  lines.push(`cluster_size: ${2 ** header.clusterBits}`);
  if (has(header.incompatible, INCOMPATIBLE.dirty)) lines.push('cleanly shut down: no');
  if (header.backingFile !== '') {
    const actual = backing === header.backingFile ? '' : ` (actual path: ${backing})`;
    lines.push(`backing file: ${header.backingFile}${actual}`);
    if (header.backingFormat !== '') lines.push(`backing file format: ${header.backingFormat}`);
  }
  if (snapshots.length > 0) lines.push(...snapshotTable(snapshots));
  lines.push('Format specific information:');
  for (const [key, value] of Object.entries(specific(header)))
    lines.push(`    ${key.replaceAll('-', ' ')}: ${value}`);
  return `${lines.join('\n')}\n`;
}
