/** The backing file of an image, and an image emptied down to it. For a node without requests under way. */
import { BlockError } from '../errors.ts';
import { MAX_BACKING_NAME } from './format.ts';
import type { Qcow2Node } from './node.ts';

/** Writes another backing file's name (empty: none) and format into the header. The node's backing node stays as it is. */
export async function changeBackingFile(node: Qcow2Node, name: string, format: string): Promise<void> {
  const { state } = node;
  const { header } = state;
  if (Buffer.byteLength(name) > MAX_BACKING_NAME) throw new BlockError('EINVAL', 'Invalid argument');
  if (name !== '' && state.dataFileRaw) throw new BlockError('EINVAL', 'Invalid argument');
  const { backingFile, backingFormat } = header;
  await state.lock.run(async () => {
    await state.flushMetadata();
    header.backingFile = name;
    header.backingFormat = name === '' ? '' : format;
    try {
      await state.writeHeader();
    } catch (error) {
      header.backingFile = backingFile;
      header.backingFormat = backingFormat;
      throw error;
    }
    await state.file.flush();
  });
}

/** Everything shows the backing file again (after a commit). */
export async function makeEmpty(node: Qcow2Node): Promise<void> {
  const { clusterSize, header } = node.state;
  const end = Math.ceil(header.size / clusterSize) * clusterSize;
  if (end > 0) await node.emptier.empty(0, end, 'empty');
  await node.flush();
}
