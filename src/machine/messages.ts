/** Start-up messages between the host thread and the workers. Everything later goes through shared memory. */
import type { MessagePort } from 'node:worker_threads';
import type { PollParameters } from '../aio/busy-polling.ts';
import type { HandlerTable } from '../cpu/tier0/handlers.ts';
import type { MachineConfig } from './config.ts';

/** Files that the main loop loads at each reset. */
export interface BootFiles {
  readonly kernel?: Uint8Array;
  readonly initrd?: Uint8Array;
  readonly modules?: readonly { readonly data: Uint8Array; readonly cmdline: string }[];
  readonly append?: string;
  readonly kernelName?: string;
}

export interface MainLoopData {
  readonly memory: WebAssembly.Memory;
  readonly config: MachineConfig;
  readonly boot: BootFiles;
}

export interface VcpuData {
  readonly memory: WebAssembly.Memory;
  readonly config: MachineConfig;
  readonly module: WebAssembly.Module;
  readonly table: HandlerTable;
  /** The vCPUs that this worker runs. */
  readonly indices: readonly number[];
  /** Connection to the JIT worker, unless tier 1 is off. */
  readonly jit?: { readonly port: MessagePort; readonly firstRegion: number };
}

export interface IothreadData {
  readonly memory: WebAssembly.Memory;
  readonly config: MachineConfig;
  /** Its place among the machine's iothreads. */
  readonly index: number;
  readonly polling: PollParameters;
  /** It is made while the machine runs. */
  readonly fresh?: boolean;
  /** Of the block helpers. */
  readonly jobs: SharedArrayBuffer;
}

export interface JitData {
  readonly memory: WebAssembly.Memory;
  readonly config: MachineConfig;
  readonly module: WebAssembly.Module;
  readonly table: HandlerTable;
  readonly firstRegion: number;
  /** One to each vCPU worker. */
  readonly ports: readonly MessagePort[];
}

/** Worker to host, at start. */
export interface WorkerMessage {
  readonly type: 'ready';
  /** Of a vCPU worker: its interpreter is optimised code. */
  readonly optimised?: boolean;
}
