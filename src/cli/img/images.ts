/** Images for the commands of `smp86 img`: opens and creates them, with qemu-img's messages. */
import { BlockError } from '../../block/errors.ts';
import { inlineCodec } from '../../block/codec.ts';
import { FileNode } from '../../block/file.ts';
import type { BlockContext, BlockNode, Codec, Preallocation, SlowCalls } from '../../block/node.ts';
import {
  filePath,
  type ImageUser,
  openImage as openNode,
  type OpenRequest,
  resolveName,
} from '../../block/open.ts';
import type { OptionTree } from '../../block/options.ts';
import {
  createQcow2,
  checkCreateOptions,
  QCOW2_DEFAULTS,
  type Qcow2CreateOptions,
} from '../../block/qcow2/create.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { findSnapshot, showSnapshot } from '../../block/qcow2/snapshot.ts';
import { hostFile } from '../../host/block-host.ts';
import { splitCommas } from '../option-values.ts';
import { checkCache, isDirect } from './cache-modes.ts';
import type { CommandContext, ImageChoice } from './command.ts';
import type { FormatOptions } from './format-options.ts';
import { asImgError, ImgError } from './img-error.ts';
import type { SnapshotChoice } from './snapshot-choice.ts';

const SECTOR = 512;

export interface OpenChoice extends ImageChoice {
  readonly writable?: boolean;
  /** -t: how it is written. */
  readonly cache?: string;
  /** -T: how it is read. */
  readonly sourceCache?: string;
  /** What for. */
  readonly user?: ImageUser;
  /** Its backing file is left alone. */
  readonly noBacking?: boolean;
  /** It is opened however damaged it is. */
  readonly forCheck?: boolean;
  /** Exit code when it cannot be opened. */
  readonly status?: number;
  /** What the message begins with instead of `Could not open 'NAME': `. */
  readonly prefix?: string;
  readonly codec?: Codec;
  readonly slowCalls?: SlowCalls;
}

export function blockContext(
  { output }: CommandContext,
  codec: Codec = inlineCodec,
  slowCalls?: SlowCalls,
): BlockContext {
  return { codec, slowCalls, host: hostFile(), warn: (text) => output.err(`${text}\n`) };
}

/** `driver=qcow2,file.filename=a.img` as options of a node. */
function imageOptions(text: string): OptionTree {
  return Object.fromEntries(
    splitCommas(text).map((part) => {
      const equals = part.indexOf('=');
      return equals < 0 ? [part, 'on'] : [part.slice(0, equals), part.slice(equals + 1)];
    }),
  );
}

/** The caller closes it. *Errors:* ImgError. */
export async function openImage(
  context: CommandContext,
  name: string,
  choice: OpenChoice,
): Promise<BlockNode> {
  const { writable = false, status, prefix = `Could not open '${name}': ` } = choice;
  try {
    checkCache('t', choice.cache);
    checkCache('T', choice.sourceCache);
  } catch (error) {
    throw asImgError(error, '', status);
  }
  const request: OpenRequest = {
    ...(choice.imageOpts ? { options: imageOptions(name) } : { file: name }),
    format: choice.format,
    readOnly: !writable,
    user: choice.user ?? 'command',
    noFlush: choice.cache === 'unsafe',
    direct: isDirect(writable ? choice.cache : choice.sourceCache),
    forceShare: choice.forceShare,
    noBacking: choice.noBacking,
    forCheck: choice.forCheck,
  };
  try {
    if (choice.forceShare && writable) {
      throw new BlockError('EINVAL', 'force-share=on can only be used with read-only images');
    }
    return await openNode(request, blockContext(context, choice.codec, choice.slowCalls));
  } catch (error) {
    throw asImgError(error, prefix, status);
  }
}

/** Throws ImgError for the name of something that is no file (`nbd:…`). */
export function checkProtocol(name: string): void {
  try {
    filePath(name);
  } catch (error) {
    throw asImgError(error);
  }
}

/** Path of the backing file `backing` of an image called `filename`. */
export function backingPath(filename: string, backing: string): string {
  return resolveName(filename, backing);
}

const PREALLOCATION: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

function preallocationOf(options: FormatOptions): Preallocation | undefined {
  const text = options.get('preallocation') ?? 'off';
  return PREALLOCATION.find((known) => known === text);
}

/** A new image; `options` are those of `-o`, checked by parseFormatOptions, and have a size. *Errors:* BlockError, ImgError. */
export async function createImage(
  context: CommandContext,
  format: string,
  filename: string,
  options: FormatOptions,
): Promise<void> {
  const size = Math.ceil(Number(options.get('size')) / SECTOR) * SECTOR;
  if (format === 'raw') {
    const preallocation = preallocationOf(options);
    if (preallocation === undefined) {
      throw new ImgError(`invalid parameter value: ${options.get('preallocation')}`);
    }
    await createFile(filename, (file) => file.truncate(size, preallocation));
    return;
  }
  const qcow2 = qcow2Options(options, size);
  checkCreateOptions(qcow2);
  await createFile(filename, async (file) => {
    if (qcow2.dataFile === '') return createQcow2(file, undefined, qcow2, blockContext(context));
    return createFile(qcow2.dataFile, (dataFile) =>
      createQcow2(file, dataFile, qcow2, blockContext(context)),
    );
  });
}

async function createFile(filename: string, fill: (file: BlockNode) => Promise<void>): Promise<void> {
  const file = FileNode.open({
    filename: filePath(filename),
    readOnly: false,
    host: hostFile(),
    create: true,
  });
  try {
    await fill(file);
  } finally {
    await file.close();
  }
}

function qcow2Options(options: FormatOptions, size: number): Qcow2CreateOptions {
  const preallocation = preallocationOf(options);
  if (preallocation === undefined) {
    throw new ImgError(`Parameter 'preallocation' does not accept value '${options.get('preallocation')}'`);
  }
  if (options.has('backing_fmt') && !options.has('backing_file')) {
    throw new ImgError('Backing format cannot be used without backing file');
  }
  return {
    ...QCOW2_DEFAULTS,
    size,
    version: versionOf(options.get('compat') ?? 'v3'),
    clusterSize: Number(options.get('cluster_size') ?? QCOW2_DEFAULTS.clusterSize),
    refcountBits: Number(options.get('refcount_bits') ?? QCOW2_DEFAULTS.refcountBits),
    lazyRefcounts: options.get('lazy_refcounts') === 'on',
    extendedL2: options.get('extended_l2') === 'on',
    compressionType: compressionOf(options.get('compression_type') ?? 'zlib'),
    backingFile: options.get('backing_file') ?? '',
    backingFormat: options.get('backing_fmt') ?? '',
    dataFile: options.get('data_file') ?? '',
    dataFileRaw: options.get('data_file_raw') === 'on',
    preallocation,
  };
}

function versionOf(compat: string): 2 | 3 {
  if (compat === '0.10' || compat === 'v2') return 2;
  if (compat === '1.1' || compat === 'v3') return 3;
  throw new ImgError(`Parameter 'version' does not accept value '${compat}'`);
}

function compressionOf(type: string): 'zlib' | 'zstd' {
  if (type === 'zlib' || type === 'zstd') return type;
  throw new ImgError(`Parameter 'compression-type' does not accept value '${type}'`);
}

/** Shows a read-only image as it was at a snapshot. *Errors:* ImgError. */
export async function loadSnapshot(image: BlockNode, choice: SnapshotChoice): Promise<void> {
  const snapshots = image instanceof Qcow2Node ? image.state.snapshots : [];
  const { id, name, either } = choice;
  const found =
    either === undefined
      ? snapshots.find((each) => each.id === (id ?? each.id) && each.name === (name ?? each.name))
      : findSnapshot(snapshots, either);
  if (found === undefined || !(image instanceof Qcow2Node)) {
    throw new ImgError("Failed to load snapshot: Can't find snapshot");
  }
  try {
    await showSnapshot(image, found.id);
  } catch (error) {
    throw asImgError(error, 'Failed to load snapshot: ');
  }
}
