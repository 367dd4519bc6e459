/**
 * Iothread objects of a machine that runs, as its user names them: made, ended, and moved to. *Thread:* host.
 */
import type { PollParameters } from '../aio/busy-polling.ts';
import { COMMAND } from './board.ts';
import type { IothreadOptions } from './drive-options.ts';
import { MachineError } from './errors.ts';
import { MOVE } from './iothread.ts';
import type { IothreadData } from './messages.ts';
import type { StorageConfig } from './storage-config.ts';
import { DEFAULT_POLLING } from './storage-setup.ts';
import type { StartedThread } from './workers.ts';

/** What an iothread's thread is told, but for what all of them are. */
export type IothreadStart = Pick<IothreadData, 'index' | 'polling' | 'fresh'>;

export interface IothreadObjectsDeps {
  readonly storage: StorageConfig;
  /** Names of those that are there at the start, in the order of their places. */
  readonly names: readonly string[];
  /** Number of places. */
  readonly places: number;
  readonly start: (data: IothreadStart) => StartedThread;
  /** Has the main loop do a command, after those before it; gives its result. *Errors:* MachineError. */
  readonly command: (command: number, first: number, second?: number) => Promise<number>;
}

interface IothreadObject {
  /** Undefined: that of drives for which none is named. */
  readonly id: string | undefined;
  readonly thread: StartedThread;
}

export class IothreadObjects {
  readonly #deps: IothreadObjectsDeps;
  /** By place; undefined: nothing there. */
  readonly #objects: (IothreadObject | undefined)[];
  /** One after the other. */
  #last: Promise<unknown> = Promise.resolve();

  /** Starts the threads of those that are there from the start. */
  constructor(deps: IothreadObjectsDeps) {
    this.#deps = deps;
    this.#objects = Array.from({ length: deps.places });
    deps.storage.iothreads.forEach(({ polling }, index) => {
      this.#objects[index] = { id: deps.names.at(index), thread: deps.start({ index, polling }) };
    });
  }

  /** Names, in no order. */
  get names(): string[] {
    return this.#objects.flatMap((object) => (object?.id === undefined ? [] : [object.id]));
  }

  /** *Errors:* MachineError ERR_MACHINE_OBJECT. */
  add({ id, polling }: IothreadOptions): Promise<void> {
    return this.#next(async () => {
      if (this.#find(id) >= 0)
        throw new MachineError('ERR_MACHINE_OBJECT', `object '${id}' is there already`);
      await this.#start(id, polling);
    });
  }

  /** *Errors:* MachineError ERR_MACHINE_OBJECT, ERR_MACHINE_BUSY. */
  del(id: string): Promise<void> {
    return this.#next(async () => {
      const place = this.#find(id);
      const object = this.#objects[place];
      if (object === undefined) throw new MachineError('ERR_MACHINE_OBJECT', `there is no object '${id}'`);
      // told before it ends, so that its end is not taken for a failure
      const gone = object.thread.leave();
      if ((await this.#deps.command(COMMAND.OBJECT_DEL, place)) === 0) {
        object.thread.stay();
        throw new MachineError('ERR_MACHINE_BUSY', `a drive lives in object '${id}'`);
      }
      await gone;
      this.#objects[place] = undefined;
    });
  }

  /** Moves a drive; null: to the iothread of drives for which none is named. *Errors:* MachineError. */
  move(drive: string, id: string | null): Promise<void> {
    return this.#next(async () => {
      const { drives } = this.#deps.storage;
      const index = drives.findIndex(({ options }) => options.id === drive);
      if (index < 0)
        throw new MachineError('ERR_MACHINE_OBJECT', `there is no drive '${drive}' with an image`);
      const { options } = drives[index];
      // what is in its overlay would be lost
      if (options.snapshot) throw new MachineError('ERR_MACHINE_BUSY', `drive '${drive}' has snapshot=on`);
      let place = this.#find(id ?? undefined);
      if (place < 0) {
        if (id !== null) throw new MachineError('ERR_MACHINE_OBJECT', `there is no object '${id}'`);
        place = await this.#start(undefined, undefined);
      }
      switch (await this.#deps.command(COMMAND.SET_IOTHREAD, index, place)) {
        case MOVE.REFUSED:
          throw new MachineError(
            'ERR_MACHINE_BUSY',
            `a failed request of drive '${drive}' waits for the machine to go on`,
          );
        case MOVE.FAILED:
          throw new MachineError('ERR_MACHINE_BUSY', `drive '${drive}' could not be opened again; it stays`);
      }
    });
  }

  #find(id: string | undefined): number {
    return this.#objects.findIndex((object) => object !== undefined && object.id === id);
  }

  async #start(id: string | undefined, polling: PollParameters = DEFAULT_POLLING): Promise<number> {
    const index = this.#objects.indexOf(undefined);
    if (index < 0)
      throw new MachineError(
        'ERR_MACHINE_OBJECT',
        `all ${this.#objects.length} places for iothreads are taken`,
      );
    const thread = this.#deps.start({ index, polling, fresh: true });
    // a thread that fails ends the machine, which the command tells
    await thread.ready.catch(() => {});
    await this.#deps.command(COMMAND.OBJECT_ADD, index);
    this.#objects[index] = { id, thread };
    return index;
  }

  #next<T>(body: () => Promise<T>): Promise<T> {
    const result = this.#last.then(body);
    this.#last = result.catch(() => {});
    return result;
  }
}
