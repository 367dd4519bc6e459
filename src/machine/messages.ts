/** Start-up messages between the host thread and the workers. Everything later goes through shared memory. */
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
}

/** Worker to host, at start. */
export interface WorkerMessage {
  readonly type: 'ready';
}
