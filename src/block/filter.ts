/** What stands on one file and changes little of its requests: raw, throttle. */
import type {
  BlockLimits,
  BlockNode,
  BlockStatus,
  Done,
  IoVector,
  Preallocation,
  WriteFlags,
  ZeroFlags,
} from './node.ts';

/** Passes all requests on to its file. *Thread:* the context's. */
export abstract class FilterNode implements BlockNode {
  abstract readonly driver: string;
  nodeName = '';
  readonly children: { readonly file: BlockNode };
  protected readonly file: BlockNode;

  constructor(file: BlockNode) {
    this.children = { file };
    this.file = file;
  }

  get filename(): string {
    return this.file.filename;
  }
  get size(): number {
    return this.file.size;
  }
  get readOnly(): boolean {
    return this.file.readOnly;
  }
  get limits(): BlockLimits {
    return this.file.limits;
  }

  read(offset: number, to: IoVector): Done {
    return this.file.read(offset, to);
  }
  write(offset: number, from: IoVector, flags?: WriteFlags): Done {
    return this.file.write(offset, from, flags);
  }
  writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    return this.file.writeZeroes(offset, length, flags);
  }
  discard(offset: number, length: number): Promise<void> {
    return this.file.discard(offset, length);
  }
  writeCompressed(offset: number, from: IoVector): Promise<void> {
    return this.file.writeCompressed(offset, from);
  }
  flush(): Promise<void> {
    return this.file.flush();
  }
  blockStatus(offset: number, length: number): Promise<BlockStatus> {
    return this.file.blockStatus(offset, length);
  }
  truncate(size: number, preallocation?: Preallocation): Promise<void> {
    return this.file.truncate(size, preallocation);
  }
  allocatedSize(): Promise<number> {
    return this.file.allocatedSize();
  }
  close(): Promise<void> {
    return this.file.close();
  }
}
