/**
 * One drive of a tape target, and whose turn it is: jobs in the order of their coming, and hands
 * while no job uses it.
 *
 * A job that parks leaves the drive to hands and to visitors, but stays the next to have it.
 *
 * Invariant: of the job that has the drive and is not parked, a visitor beside a parked one, and
 * hands, one at most is at work.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../base/clock.ts';
import { deferred, Mutex } from '../base/mutex.ts';
import type { Deferred } from '../base/mutex.ts';

/** So long hands wait for a job that looks at what they have done; then they are refused. */
const LOOKING_MS = 2000;

/** A job in its relation to the drive. */
export class DriveUser {
  readonly job: string;
  /** Fires when its work has ended: nothing that it still waits for matters. */
  readonly left = new AbortController();
  isParked = false;
  /** When hands used the drive while it was parked. */
  handsAtMs = -Infinity;
  /** While it looks at what hands have done: resolved when it parks again or leaves. */
  looking: Deferred<undefined> | undefined;

  /** @param job its id */
  constructor(job: string) {
    this.job = job;
  }
}

/** Has the job say that it waits for the drive, until `change`. */
export type DriveWait = (change: Promise<undefined>) => Promise<unknown>;

export class SharedDrive {
  #user: DriveUser | undefined;
  readonly #queue: { readonly user: DriveUser; readonly turn: Deferred<undefined> }[] = [];
  /** Hands, and who comes back from being parked. */
  readonly #hands = new Mutex();
  #changed = deferred<undefined>();
  /** Resolved when a job parks. */
  #parked = deferred<undefined>();

  /** Who has the drive. */
  get user(): DriveUser | undefined {
    return this.#user;
  }

  /** Resolves when somebody has done something with the drive or its cartridges. */
  get changed(): Promise<undefined> {
    return this.#changed.promise;
  }

  /** Tells those who wait for a cartridge to look again. */
  tell(): void {
    const changed = this.#changed;
    this.#changed = deferred();
    changed.resolve(undefined);
  }

  /** Resolves when the user has the drive. However it ends, `leave` follows. */
  async take(user: DriveUser, wait: DriveWait): Promise<void> {
    if (this.#user === undefined) this.#user = user;
    else await wait(this.#enqueue(user));
    await this.#handsOff();
  }

  /** Gives the drive, or the place in the queue, back. */
  leave(user: DriveUser): void {
    const place = this.#queue.findIndex((each) => each.user === user);
    if (place >= 0) this.#queue.splice(place, 1);
    user.looking?.resolve(undefined);
    if (this.#user !== user) return;
    const next = this.#queue.shift();
    this.#user = next?.user;
    next?.turn.resolve(undefined);
  }

  /** Runs work in its turn, or while the job that has the drive is parked. `leave` follows. */
  async visit<T>(user: DriveUser, wait: DriveWait, work: () => Promise<T>): Promise<T> {
    if (this.#user === undefined) {
      await this.take(user, wait);
      return work();
    }
    const turn = this.#enqueue(user);
    while (this.#user !== user) {
      const done = await this.#beside(work);
      if (done !== undefined) return done.value;
      await wait(Promise.race([turn, this.#parked.promise]));
    }
    await this.#handsOff();
    return work();
  }

  /** Leaves the drive to others while `wait` goes on; those who are at it then finish first. */
  async park(user: DriveUser, wait: () => Promise<unknown>): Promise<void> {
    user.isParked = true;
    const parked = this.#parked;
    this.#parked = deferred();
    parked.resolve(undefined);
    user.looking?.resolve(undefined);
    user.looking = undefined;
    try {
      await wait();
    } finally {
      await this.#hands.run(async () => {
        user.isParked = false;
        user.looking = deferred();
      });
    }
  }

  /**
   * Runs what hands do.
   *
   * @param refused throws; called with a user that has the drive and is not parked
   */
  async hands<T>(work: () => Promise<T>, refused: (user: DriveUser) => never): Promise<T> {
    return this.#hands.run(async () => {
      await haveLooked(this.#user);
      const user = this.#user;
      if (user !== undefined && !user.isParked) refused(user);
      try {
        return await work();
      } finally {
        if (user !== undefined) user.handsAtMs = systemClock.nowMs();
        this.tell();
      }
    });
  }

  /** While the job that has the drive is parked; undefined if it is not. */
  async #beside<T>(work: () => Promise<T>): Promise<{ value: T } | undefined> {
    if (this.#user?.isParked !== true) return undefined;
    return this.#hands.run(async () => {
      if (this.#user?.isParked !== true) return undefined;
      try {
        return { value: await work() };
      } finally {
        this.tell();
      }
    });
  }

  #enqueue(user: DriveUser): Promise<undefined> {
    const turn = deferred<undefined>();
    this.#queue.push({ user, turn });
    return turn.promise;
  }

  /** Hands that began before have the drive still. */
  async #handsOff(): Promise<void> {
    await this.#hands.run(async () => undefined);
  }
}

/** One step of hands follows the other: a job that was woken by the first may look first. */
async function haveLooked(user: DriveUser | undefined): Promise<void> {
  if (user?.looking === undefined) return;
  const stop = new AbortController();
  const { signal } = stop;
  const over = delay(LOOKING_MS, undefined, { signal }).catch(() => undefined);
  await Promise.race([user.looking.promise, over]);
  stop.abort();
  // If it has not parked again it goes on: later hands need not wait.
  if (!user.isParked) user.looking = undefined;
}
