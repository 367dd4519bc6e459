/** Opening images: file names, formats, backing chains. */
import { dirname, isAbsolute, join } from 'node:path';
import { asBlockError, BlockError } from './errors.ts';
import { FileNode } from './file.ts';
import {
  BACKING_LOCK,
  commandLock,
  dataFileLock,
  deviceLock,
  type LockMode,
  metadataLock,
  UNLOCKED,
} from './locks.ts';
import type { BlockContext, BlockNode } from './node.ts';
import { flattenOptions, NodeOptions, type OptionTree } from './options.ts';
import { PROBE_SIZE, probeFormat } from './probe.ts';
import type { Qcow2Header } from './qcow2/header.ts';
import { openQcow2 } from './qcow2/open.ts';
import { RawNode } from './raw.ts';
import { ThrottleNode } from './throttle-node.ts';

/** Longest backing chain. */
const MAX_DEPTH = 200;

export type ImageUser =
  /** A guest's disk; with `share-rw=on`. */
  | 'disk'
  | 'shared-disk'
  /** A command of `smp86 img`: reads or writes; copies it, so that others must not change it;
   * changes the size, too; looks at metadata only. */
  | 'command'
  | 'copy-source'
  | 'resize'
  | 'info';

/** What to open, and how. */
export interface OpenRequest {
  /** A path, `file:PATH`, `json:{…}`; or `options` name it (`file.filename`). */
  readonly file?: string;
  /** Default: by its first bytes, with a warning when that says raw. */
  readonly format?: string;
  readonly readOnly: boolean;
  /** More options of the node: those of `-blockdev`, or what is left of `-drive`. `driver` counts as `format`. */
  readonly options?: OptionTree;
  /** `cache=unsafe`. */
  readonly noFlush?: boolean;
  /** `cache.direct=on`: past the host's cache. */
  readonly direct?: boolean;
  /** `discard=unmap`. */
  readonly unmap?: boolean;
  /** Who uses it, which decides what others may do meanwhile. Default: a guest's disk. */
  readonly user?: ImageUser;
  /** `qemu-img -U`, `force-share=on`: whoever else writes. Only with `readOnly`. */
  readonly forceShare?: boolean;
  /** Leave the backing file alone (`qemu-img info`, `check`); what comes from it reads as zeroes. */
  readonly noBacking?: boolean;
  /** As Qcow2OpenOptions.forCheck. */
  readonly forCheck?: boolean;
  /** Nodes that options name by their node-name. */
  node?(name: string): BlockNode | undefined;
}

/** Opens an image and what it stands on. Throws BlockError; `message` is what QEMU prints after the program's name. */
export async function openImage(request: OpenRequest, context: BlockContext): Promise<BlockNode> {
  const options = NodeOptions.from(request.options ?? {});
  if (request.file !== undefined) addFile(options, request.file);
  try {
    return await new Opener(request, context).open(options, request.format, request.readOnly, 0);
  } catch (error) {
    throw asBlockError(error);
  }
}

/** Puts what a file name says into the options. */
function addFile(options: NodeOptions, file: string): void {
  if (file.startsWith('json:')) {
    for (const [key, value] of flattenOptions(parseJson(file))) options.add(key, value);
  } else {
    options.add('filename', file);
  }
}

function parseJson(text: string): OptionTree {
  try {
    const value: unknown = JSON.parse(text.slice('json:'.length));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as OptionTree;
  } catch (error) {
    throw new BlockError('EINVAL', 'Could not parse the JSON options: JSON parse error, invalid syntax', {
      cause: error,
    });
  }
  throw new BlockError('EINVAL', 'Invalid JSON object given');
}

/** The path that a file name means. Throws for a protocol that smp86 does not have. */
export function filePath(name: string): string {
  if (name.startsWith('file:')) return name.slice('file:'.length);
  const colon = name.indexOf(':');
  const slash = name.indexOf('/');
  if (colon > 0 && (slash < 0 || colon < slash)) {
    throw new BlockError('EINVAL', `Unknown protocol '${name.slice(0, colon)}'`);
  }
  return name;
}

/** A backing file's name, as the image in `base` means it. */
export function resolveName(base: string, name: string): string {
  if (name.startsWith('json:')) return name;
  const path = filePath(name);
  if (isAbsolute(path) || base === '') return path;
  return join(dirname(base.startsWith('file:') ? base.slice(5) : base), path);
}

/** What an image is to the one above it. */
type ImageRole = 'top' | 'backing' | 'data';

function lockMode(
  format: string,
  role: ImageRole,
  writable: boolean,
  forceShare: boolean,
  user: ImageUser,
): LockMode {
  if (forceShare) return user === 'info' ? UNLOCKED : commandLock(false);
  if (role === 'data') return dataFileLock(writable, user !== 'disk');
  if (format === 'qcow2') return metadataLock(writable, user !== 'info');
  if (user === 'info') return UNLOCKED;
  const isDisk = user === 'disk' || user === 'shared-disk';
  if (user === 'copy-source') return BACKING_LOCK;
  if (role === 'backing') return isDisk ? BACKING_LOCK : commandLock(false);
  return isDisk ? deviceLock(writable, user === 'shared-disk') : commandLock(writable, user === 'resize');
}

class Opener {
  readonly #request: OpenRequest;
  readonly #context: BlockContext;

  constructor(request: OpenRequest, context: BlockContext) {
    this.#request = request;
    this.#context = context;
  }

  /** A node from its options; `depth`: of the backing chain. */
  async open(
    options: NodeOptions,
    format: string | undefined,
    readOnly: boolean,
    depth: number,
    role: ImageRole = 'top',
  ): Promise<BlockNode> {
    if (depth > MAX_DEPTH) throw new BlockError('ELOOP', 'Too many levels of backing files');
    const nodeName = options.text('node-name') ?? '';
    const only = options.boolean('read-only') ?? readOnly;
    options.boolean('auto-read-only');
    const unmap = options.text('discard');
    if (unmap !== undefined && !['unmap', 'on', 'ignore', 'off'].includes(unmap)) {
      throw new BlockError('EINVAL', `Parameter 'discard' does not accept value '${unmap}'`);
    }
    const wantsUnmap =
      unmap === undefined ? (this.#request.unmap ?? false) : unmap === 'unmap' || unmap === 'on';
    options.text('detect-zeroes');
    options.sub('cache');
    const forceShare = options.boolean('force-share') ?? this.#request.forceShare ?? false;
    let driver = options.text('driver') ?? format;
    if (driver === 'file' || driver === 'host_device') {
      const node = this.#openFile(options, only);
      node.nodeName = nodeName;
      this.#lock(node, driver, role, forceShare);
      return node;
    }
    if (driver === 'throttle') return await this.#openThrottle(options, nodeName, only, depth);
    const file = await this.#openChild(options, only, depth);
    let node: BlockNode;
    try {
      const probed = driver === undefined;
      if (driver === undefined) {
        driver = await probe(file);
        if (driver === 'raw' && !only) this.#warnRaw(file.filename);
      }
      if (file instanceof FileNode) this.#lock(file, driver, role, forceShare);
      switch (driver) {
        case 'raw':
          node = new RawNode(file, {
            offset: options.size('offset'),
            size: options.size('size'),
            probed: probed && !only,
          });
          break;
        case 'qcow2':
          node = await this.#openQcow2(file, options, only, wantsUnmap, depth);
          break;
        default:
          throw new BlockError('ENOENT', `Unknown driver '${driver}'`);
      }
      options.finish('format', driver);
    } catch (error) {
      await file.close();
      throw error;
    }
    node.nodeName = nodeName;
    return node;
  }

  async #openThrottle(
    options: NodeOptions,
    nodeName: string,
    readOnly: boolean,
    depth: number,
  ): Promise<BlockNode> {
    const group = options.text('throttle-group');
    if (group === undefined) throw new BlockError('EINVAL', "Parameter 'throttle-group' is missing");
    const file = await this.#openChild(options, readOnly, depth);
    try {
      if (file instanceof FileNode) this.#lock(file, 'raw', 'top', false);
      options.finish('format', 'throttle');
      const throttle = this.#context.throttle?.(group);
      if (throttle === undefined) throw new BlockError('EINVAL', `Throttle group '${group}' does not exist`);
      const node = new ThrottleNode(file, throttle);
      node.nodeName = nodeName;
      return node;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  #lock(file: FileNode, format: string, role: ImageRole, forceShare: boolean): void {
    file.lock(lockMode(format, role, !file.readOnly, forceShare, this.#request.user ?? 'disk'));
  }

  #warnRaw(filename: string): void {
    this.#context.warn(
      `WARNING: Image format was not specified for '${filename}' and probing guessed raw.\n` +
        '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
        "         Specify the 'raw' format explicitly to remove the restrictions.",
    );
  }

  /** The protocol node: `file` names a node, or `file.*` its options, or `filename` its path. */
  async #openChild(options: NodeOptions, readOnly: boolean, depth: number): Promise<BlockNode> {
    const name = options.text('file');
    if (name !== undefined) {
      const node = this.#request.node?.(name);
      if (!node) throw new BlockError('EINVAL', `Cannot find device='' nor node-name='${name}'`);
      return node;
    }
    const child = options.sub('file');
    const filename = options.text('filename');
    if (filename !== undefined && !child.has('filename')) child.add('filename', filename);
    const driver = child.text('driver') ?? 'file';
    if (child.empty) throw new BlockError('EINVAL', 'A block device must be specified for "file"');
    const nodeName = child.text('node-name');
    if (driver !== 'file' && driver !== 'host_device') {
      // a format on a format
      return this.open(child, driver, readOnly, depth + 1);
    }
    const only = child.boolean('read-only') ?? readOnly;
    const node = this.#openFile(child, only);
    if (nodeName !== undefined) node.nodeName = nodeName;
    return node;
  }

  #openFile(options: NodeOptions, readOnly: boolean): FileNode {
    const filename = options.text('filename');
    if (filename === undefined || filename === '')
      throw new BlockError('EINVAL', "The 'file' block driver requires a file name");
    const locking = options.text('locking');
    options.text('aio');
    options.boolean('auto-read-only');
    options.text('discard');
    const direct = options.sub('cache').boolean('direct');
    options.boolean('drop-cache');
    options.boolean('x-check-cache-dropped');
    options.finish('protocol', 'file');
    return FileNode.open({
      filename: filePath(filename),
      readOnly,
      host: this.#context.host,
      slowCalls: this.#context.slowCalls,
      locking: locking !== 'off',
      direct: direct ?? this.#request.direct,
      guestMemory: this.#context.guestMemory,
      noFlush: this.#request.noFlush,
    });
  }

  async #openQcow2(
    file: BlockNode,
    options: NodeOptions,
    readOnly: boolean,
    unmap: boolean,
    depth: number,
  ): Promise<BlockNode> {
    const backingName = options.text('backing');
    const backing = options.sub('backing');
    const dataFile = options.sub('data-file');
    const dataFileName = options.text('data-file');
    return openQcow2({
      file,
      context: this.#context,
      options,
      readOnly,
      unmap,
      forCheck: depth === 0 && this.#request.forCheck,
      openDataFile: (header) => this.#openDataFile(header, file, dataFileName, dataFile, readOnly, depth),
      openBacking: (header) => this.#openBacking(header, file, backingName, backing, depth),
    });
  }

  async #openDataFile(
    header: Qcow2Header,
    file: BlockNode,
    name: string | undefined,
    options: NodeOptions,
    readOnly: boolean,
    depth: number,
  ): Promise<BlockNode | undefined> {
    if (name !== undefined) {
      const node = this.#request.node?.(name);
      if (!node) throw new BlockError('EINVAL', `Cannot find device='' nor node-name='${name}'`);
      return node;
    }
    if (this.#request.user === 'info') return undefined;
    if (options.empty) {
      if (header.dataFile === '') throw new BlockError('EINVAL', "'data-file' is required for this image");
      // unlike a backing file's, its name is relative to where the program runs, as in QEMU
      addFile(options, header.dataFile);
    }
    // the data file is a protocol: its content is never looked at for a format
    return this.open(options, 'file', readOnly, depth + 1, 'data');
  }

  async #openBacking(
    header: Qcow2Header,
    file: BlockNode,
    name: string | undefined,
    options: NodeOptions,
    depth: number,
  ): Promise<BlockNode | undefined> {
    if (name === '' || this.#request.noBacking) return undefined;
    if (name !== undefined) {
      const node = this.#request.node?.(name);
      if (!node) throw new BlockError('EINVAL', `Cannot find device='' nor node-name='${name}'`);
      return node;
    }
    const named = options.has('filename') || options.has('file.filename') || options.has('file');
    try {
      if (!named) addFile(options, resolveName(file.filename, header.backingFile));
      return await this.open(
        options,
        header.backingFormat === '' ? undefined : header.backingFormat,
        true,
        depth + 1,
        'backing',
      );
    } catch (error) {
      throw asBlockError(error, 'Could not open backing file');
    }
  }
}

async function probe(file: BlockNode): Promise<string> {
  const head = new Uint8Array(PROBE_SIZE);
  await file.read(0, [head]);
  return probeFormat(head);
}
