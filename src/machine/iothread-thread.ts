/** What an iothread does: opens its drives, serves their devices' queues, and carries out the main loop's commands. */
import { writeSync } from 'node:fs';
import { registerMemory, setOwnerId } from '@smp86/atomics-sync';
import type { AioContext } from '../aio/aio-context.ts';
import type { BlockError } from '../block/errors.ts';
import { BlockHelpers } from '../block/helpers/client.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { IdeServer } from '../hw/ide/ide-server.ts';
import type { ErrorAction } from '../block/backend.ts';
import { VirtioBlkServer } from '../hw/virtio/virtio-blk-server.ts';
import { Board, REQUEST } from './board.ts';
import { closeDrive, type Drive, openDrive, settleDrive, ThrottleGroups } from './drive.ts';
import { commandKind, type Iothread, IOTHREAD_COMMAND } from './iothread.ts';
import { Log } from './log.ts';
import type { IothreadData } from './messages.ts';

/** Owner ids of iothreads begin here. */
const IOTHREAD_OWNER = 2000;

export class IothreadThread {
  private readonly board: Board;
  private readonly iothread: Iothread;
  private readonly context: AioContext;
  private readonly drives: readonly Drive[];
  private readonly servers: readonly (VirtioBlkServer | IdeServer)[];
  private readonly helpers: BlockHelpers;
  private readonly log: Log;
  /** The command that is being carried out. */
  private current: number | undefined;
  /** No I/O limits are held. The first RESUME has no QUIESCE before it, and one may be overtaken. */
  private unthrottled = false;

  /** Opens the drives of iothread `data.index`. *Errors:* BlockError. */
  static async open(data: IothreadData): Promise<IothreadThread> {
    registerMemory(data.memory);
    setOwnerId(IOTHREAD_OWNER + data.index);
    const board = new Board(data.memory, data.config, 'iothread');
    const { context } = board.storage.iothreads[data.index];
    context.setPolling(data.config.storage.iothreads[data.index].polling);
    const drives = new Map<number, Drive>();
    const { storage } = data.config;
    const groups = new ThrottleGroups(board.storage, data.index);
    const helpers = new BlockHelpers(data.jobs, data.index, board.buffer);
    for (const [i, { options, iothread }] of storage.drives.entries()) {
      if (iothread !== data.index) continue;
      drives.set(
        i,
        await openDrive(options, storage.blockdevs, context, board.storage.drives[i], groups, helpers),
      );
    }
    return new IothreadThread(data, board, drives, helpers);
  }

  private constructor(
    data: IothreadData,
    board: Board,
    drives: ReadonlyMap<number, Drive>,
    helpers: BlockHelpers,
  ) {
    this.board = board;
    this.helpers = helpers;
    this.log = new Log(data.config.log);
    this.iothread = board.storage.iothreads[data.index];
    this.context = this.iothread.context;
    this.drives = [...drives.values()];
    const { layout, storage } = board;
    const code = new CodeCache(
      board.buffer,
      { base: layout.codeCache, size: layout.codeCacheSize, codeMap: layout.codeMap },
      undefined,
      {
        pageBecomesCode: notHere,
        exclusively: notHere,
        regionsDropped: () => {
          for (const signals of board.signals) signals.kick();
        },
      },
    );
    board.memoryWritten = (host, length) => code.written(host, length);
    const virtio = storage.virtioDisks.flatMap(({ device, model, drive: index }) => {
      const drive = drives.get(index);
      if (drive === undefined) return [];
      const server = new VirtioBlkServer({
        device,
        model,
        drive: drive.backend,
        ram: storage.ram,
        failed: (error, write) => this.failed(drive, error, write),
        guestError: (message) => {
          if (this.log.has('guest_errors')) this.log.write(`virtio-blk (${drive.options.id}): ${message}\n`);
        },
      });
      return [server];
    });
    const ide = data.config.storage.ide.flatMap((config, place) => {
      const index = config?.drive;
      const drive = index === undefined ? undefined : drives.get(index);
      const unit = storage.ide.channels[place >> 1].drives[place & 1];
      if (drive === undefined || unit === undefined) return [];
      const server = new IdeServer({
        request: unit.state.request,
        drive: drive.backend,
        ram: storage.ram,
        buffer: unit.buffer,
        failed: (error, write) => this.failed(drive, error, write),
        done: () => board.mainLoop.post(REQUEST.DISKS),
      });
      return [server];
    });
    this.servers = [...virtio, ...ide];
    this.context.addPoller(helpers);
    for (const server of this.servers) this.context.addPoller(server);
    this.context.addPoller({
      poll: () => this.takeCommand(),
      ready: () => this.iothread.pending !== this.current,
    });
  }

  /** *May block:* yes, the thread. */
  async run(): Promise<void> {
    this.helpers.active = true;
    await this.context.run();
    this.helpers.close();
  }

  private failed(drive: Drive, error: BlockError, write: boolean): ErrorAction {
    const action = drive.backend.errorAction(error, write);
    if (action === 'stop') {
      const what = write ? 'write' : 'read';
      writeSync(
        2,
        `smp86: drive ${drive.options.id}: ${what} failed, the machine is stopped: ${error.message}\n`,
      );
      this.board.mainLoop.post(REQUEST.IO_ERROR);
    }
    return action;
  }

  private takeCommand(): boolean {
    const command = this.iothread.pending;
    if (command === this.current) return false;
    this.current = command;
    if (command !== undefined) void this.carryOut(command);
    return true;
  }

  private async carryOut(command: number): Promise<void> {
    switch (commandKind(command)) {
      case IOTHREAD_COMMAND.QUIESCE:
        // VIRTUAL stands still: no timer would let requests go that wait for I/O limits
        if (!this.unthrottled) for (const { backend } of this.drives) backend.suspendThrottling();
        this.unthrottled = true;
        await Promise.all(this.servers.map((server) => server.quiesce()));
        for (const drive of this.drives) await settleDrive(drive);
        break;
      case IOTHREAD_COMMAND.RESUME:
        if (this.unthrottled) for (const { backend } of this.drives) backend.resumeThrottling();
        this.unthrottled = false;
        for (const server of this.servers) server.resume();
        break;
      case IOTHREAD_COMMAND.QUIT:
        for (const drive of this.drives) await closeDrive(drive);
        this.context.requestStop();
        break;
    }
    this.iothread.finish(command);
    if (this.current === command) this.current = undefined;
  }
}

function notHere(): never {
  throw new Error('an iothread decodes no code');
}
