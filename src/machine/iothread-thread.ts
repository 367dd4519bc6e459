/** What an iothread does: opens its drives, serves their devices' queues, and carries out the main loop's commands. */
import { writeSync } from 'node:fs';
import { registerMemory, setOwnerId } from '@smp86/atomics-sync';
import type { AioContext, Poller } from '../aio/aio-context.ts';
import { BlockError } from '../block/errors.ts';
import { BlockHelpers } from '../block/helpers/client.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { IdeServer } from '../hw/ide/ide-server.ts';
import type { ErrorAction } from '../block/backend.ts';
import { VirtioBlkServer } from '../hw/virtio/virtio-blk-server.ts';
import { Board, REQUEST } from './board.ts';
import { closeDrive, type Drive, type DriveHome, openDrive, settleDrive, ThrottleGroups } from './drive.ts';
import { commandKind, type Iothread, IOTHREAD_COMMAND, NOWHERE } from './iothread.ts';
import { Log } from './log.ts';
import type { IothreadData } from './messages.ts';

/** Owner ids of iothreads begin here. */
const IOTHREAD_OWNER = 2000;

/** A drive that lives here, and who serves its devices. */
interface Tenant {
  readonly drive: Drive;
  readonly servers: readonly (VirtioBlkServer | IdeServer)[];
}

export class IothreadThread {
  private readonly board: Board;
  private readonly iothread: Iothread;
  private readonly context: AioContext;
  private readonly helpers: BlockHelpers;
  private readonly index: number;
  private readonly home: DriveHome;
  /** By the drive's number. */
  private readonly tenants = new Map<number, Tenant>();
  private readonly log: Log;
  /** The command that is being carried out. */
  private current: number | undefined;
  private running = false;
  /** No I/O limits are held. The first RESUME has no QUIESCE before it, and one may be overtaken. */
  private unthrottled = false;

  /** Opens the drives of iothread `data.index`. *Errors:* BlockError. */
  static async open(data: IothreadData): Promise<IothreadThread> {
    registerMemory(data.memory);
    setOwnerId(IOTHREAD_OWNER + data.index);
    const thread = new IothreadThread(data);
    for (const drive of thread.own()) await thread.take(drive, false);
    return thread;
  }

  private constructor(data: IothreadData) {
    const board = new Board(data.memory, data.config, 'iothread');
    this.board = board;
    this.index = data.index;
    this.log = new Log(data.config.log);
    this.iothread = board.storage.table.iothreads[data.index];
    if (data.fresh === true) this.iothread.init();
    this.context = this.iothread.context;
    this.context.setPolling(data.polling);
    const { blockdevs } = data.config.storage;
    this.helpers = new BlockHelpers(data.jobs, data.index, board.buffer);
    const groups = new ThrottleGroups(board.storage, data.index);
    this.home = { blockdevs, aio: this.context, groups, helpers: this.helpers };
    this.context.addPoller(this.helpers);
    const { layout } = board;
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
    this.context.addPoller({
      poll: () => this.takeCommand(),
      ready: () => this.iothread.pending !== this.current,
    });
    if (data.fresh === true) this.context.addPoller(this.unannounced());
  }

  /** *May block:* yes, the thread. */
  async run(): Promise<void> {
    this.helpers.active = true;
    await this.context.run();
    this.helpers.close();
    const pending = this.context.group.lists.reduce((sum, list) => sum + list.count, 0);
    if (pending > 0) throw new Error(`an iothread ends with ${pending} timers pending`);
  }

  /** The machine may end before the main loop has heard of this iothread. */
  private unannounced(): Poller {
    const { quit } = this.board.control;
    const ready = (): boolean => quit.load() !== 0 && !this.iothread.alive && !this.context.stopRequested;
    const poll = (): boolean => {
      if (!ready()) return false;
      this.context.requestStop();
      return true;
    };
    return { ready, poll };
  }

  // --- drives ---

  /** Numbers of the drives whose home this is. */
  private own(): number[] {
    const { homes } = this.board.storage.table;
    return homes.flatMap((home, i) => (home.load() === this.index ? [i] : []));
  }

  /** Opens a drive and serves its devices. *Errors:* BlockError. */
  private async take(index: number, moved: boolean): Promise<void> {
    const { storage } = this.board;
    const { options } = storage.config.drives[index];
    const drive = await openDrive(options, this.home, storage.drives[index], moved);
    const servers = this.serversOf(index, drive);
    this.tenants.set(index, { drive, servers });
    if (this.unthrottled) drive.backend.suspendThrottling();
    for (const server of servers) this.context.addPoller(server);
    if (!this.running) return;
    for (const server of servers) server.resume();
  }

  /** Lets go of a drive, unless a request of it waits for the machine to go on. True if it did. */
  private async leave(index: number, { drive, servers }: Tenant): Promise<boolean> {
    if (!this.unthrottled) drive.backend.suspendThrottling();
    await Promise.all(servers.map((server) => server.quiesce()));
    if (servers.some((server) => server.parked)) {
      if (!this.unthrottled) drive.backend.resumeThrottling();
      return false;
    }
    for (const server of servers) {
      server.settle();
      this.context.removePoller(server);
    }
    await closeDrive(drive);
    drive.release();
    this.tenants.delete(index);
    return true;
  }

  /** Makes what is open here what is to live here. */
  private async rehome(): Promise<void> {
    const { table, config } = this.board.storage;
    for (const [index, tenant] of this.tenants) {
      const home = table.homes[index];
      if (home.load() === NOWHERE && !(await this.leave(index, tenant))) home.store(this.index);
    }
    for (const index of this.own()) {
      if (this.tenants.has(index)) continue;
      try {
        await this.take(index, true);
      } catch (error) {
        if (!(error instanceof BlockError)) throw error;
        writeSync(2, `smp86: drive ${config.drives[index].options.id}: ${error.message}\n`);
        table.homes[index].store(NOWHERE);
      }
    }
  }

  private serversOf(index: number, drive: Drive): (VirtioBlkServer | IdeServer)[] {
    const { board } = this;
    const { storage } = board;
    const virtio = storage.virtioDisks.flatMap(({ device, model, drive: number }) => {
      if (number !== index) return [];
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
    const ide = storage.config.ide.flatMap((config, place) => {
      const unit = storage.ide.channels[place >> 1].drives[place & 1];
      if (config?.drive !== index || unit === undefined) return [];
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
    return [...virtio, ...ide];
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
    const tenants = [...this.tenants.values()];
    const drives = tenants.map(({ drive }) => drive);
    const servers = tenants.flatMap((tenant) => tenant.servers);
    switch (commandKind(command)) {
      case IOTHREAD_COMMAND.QUIESCE:
        this.running = false;
        // VIRTUAL stands still: no timer would let requests go that wait for I/O limits
        if (!this.unthrottled) for (const { backend } of drives) backend.suspendThrottling();
        this.unthrottled = true;
        await Promise.all(servers.map((server) => server.quiesce()));
        for (const drive of drives) await settleDrive(drive);
        break;
      case IOTHREAD_COMMAND.RESUME:
        this.running = true;
        if (this.unthrottled) for (const { backend } of drives) backend.resumeThrottling();
        this.unthrottled = false;
        for (const server of servers) server.resume();
        break;
      case IOTHREAD_COMMAND.REHOME:
        await this.rehome();
        break;
      case IOTHREAD_COMMAND.QUIT:
        for (const drive of drives) await closeDrive(drive);
        for (const drive of drives) drive.release();
        this.home.groups.release();
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
