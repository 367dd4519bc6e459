/** A drive of a machine: the block backend, and what the drive's options say about errors. *Thread:* its iothread. */
import * as fs from 'node:fs';
import type { AioContext } from '../aio/aio-context.ts';
import { BlockError } from '../block/errors.ts';
import type { DriveRequests, DriveStateView } from '../hw/block/drive.ts';
import type { ErrorAction } from '../hw/block/errors.ts';
import type { DriveOptions, NodeOptions } from './drive-options.ts';

export interface Drive {
  readonly options: DriveOptions;
  readonly backend: DriveRequests;
  errorAction(error: BlockError, write: boolean): ErrorAction;
  /** Everything written is on stable storage. Says so on standard error when it cannot be. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

export async function openDrive(
  options: DriveOptions,
  _context: AioContext,
  state: DriveStateView,
): Promise<Drive> {
  const { node } = options;
  if (
    typeof node !== 'object' ||
    node.driver !== 'raw' ||
    options.snapshot ||
    options.throttling !== undefined
  ) {
    throw new BlockError('ENOTSUP', `drive '${options.id}': only images with format=raw yet`);
  }
  const fd = fs.openSync(String((node.file as NodeOptions).filename), 'r+');
  const size = fs.fstatSync(fd).size;
  state.size.store(size);
  state.readOnly.store(options.readOnly ? 1 : 0);
  state.writeCache.store(1);
  const backend: DriveRequests = {
    size,
    read: async (offset, to) => void fs.readvSync(fd, [...to], offset),
    write: async (offset, from) => void fs.writevSync(fd, [...from], offset),
    writeZeroes: async (offset, length) => void fs.writeSync(fd, new Uint8Array(length), 0, length, offset),
    discard: async () => {},
    flush: async () => fs.fdatasyncSync(fd),
  };
  return {
    options,
    backend,
    errorAction: () => 'report',
    settle: async () => backend.flush(),
    close: async () => fs.closeSync(fd),
  };
}
