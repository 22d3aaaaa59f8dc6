/**
 * Who has the drive of a tape target: one job at a time, and hands while no job uses it.
 *
 *  1. A job takes the lease before its worker opens the drive, in order of coming; until then it
 *     waits for the drive, by name.
 *  2. A job that needs another cartridge parks: its worker has closed the drive, and hands may load
 *     and label. Each time they have done something, it looks again.
 *     So does a job that only looks at what is in the drive.
 *  3. Hands are refused while a job has the drive and is not parked.
 *  4. With a changer, a job that needs another cartridge has it fetched before it parks, and again
 *     each time it looks.
 *
 * Invariant: the worker of a job and hands never have a drive at the same time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { rfc3339, systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { deferred, Mutex, untilAborted } from '../base/mutex.ts';
import type { Deferred } from '../base/mutex.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { CartridgeFetcher } from '../target/cartridge-fetch.ts';
import type { NeededMedium } from '../target/tape-drive-use.ts';
import type { TargetRecord } from './records.ts';

/** A real drive is looked at so often: who loads a cartridge by hand tells nobody. */
const LOOK_AGAIN_MS = 5000;

/** A changer or drive with which something is the matter is left alone for so long. */
const AFTER_PROBLEM_MS = 30_000;

/** Hands that were at the drive of a waiting job may come again: what they loaded is left there. */
const HANDS_MS = 60_000;

/** So long hands wait for a job that looks at what they have done; then they are refused. */
const LOOKING_MS = 2000;

interface Holder {
  readonly job: string;
  isParked: boolean;
  /** Fires when its work has ended: nothing that it still waits for matters. */
  readonly left: AbortController;
  readonly fetcher: CartridgeFetcher | undefined;
  /** When hands used the drive while it was parked. */
  handsAtMs: number;
  /** While it looks at what hands have done: resolved when it parks again or leaves. */
  looking: Deferred<undefined> | undefined;
}

interface Drive {
  holder: Holder | undefined;
  readonly queue: { readonly holder: Holder; readonly turn: Deferred<undefined> }[];
  /** Hands, and who comes back from being parked. */
  readonly hands: Mutex;
  changed: Deferred<undefined>;
  /** Resolved when a job parks. */
  parked: Deferred<undefined>;
}

/** A job with the drive, and what it needs. */
interface Asked {
  readonly drive: Drive;
  readonly holder: Holder;
  readonly context: JobContext<RowChange>;
  readonly target: TargetRecord;
  readonly needed: NeededMedium;
  readonly since: string;
}

export interface Lease {
  /** For the worker's call: resolves when the drive may hold what is needed. */
  wait(needed: NeededMedium): Promise<undefined>;
}

export class DriveLeases {
  /** By path of the device or library. */
  readonly #drives = new Map<string, Drive>();

  /** Runs a job's work with the drive. Waits for it; an interrupted job leaves the queue. */
  async hold<T>(
    context: JobContext<RowChange>,
    target: TargetRecord,
    work: (lease: Lease) => Promise<T>,
    fetcher?: CartridgeFetcher,
  ): Promise<T> {
    const drive = this.#drive(target.path);
    const holder = newHolder(context, fetcher);
    /** A changer that moves something is waited for, whatever becomes of the job. */
    let serving: Promise<unknown> = Promise.resolve();
    try {
      await this.#take(drive, holder, context, target);
      let since: { readonly of: string; readonly at: string } | undefined;
      return await work({
        wait: async (needed) => {
          const of = JSON.stringify([needed.set, needed.volumeNumber]);
          if (since?.of !== of) {
            // A changer tells what it does; only what it does not find is needed.
            if (fetcher === undefined) logNeed(context, needed);
            since = { of, at: rfc3339(systemClock.nowMs()) };
          }
          const asked = { drive, holder, context, target, needed, since: since.at };
          const served = this.#serve(asked);
          serving = served.catch(() => undefined);
          return served;
        },
      });
    } finally {
      holder.left.abort(new StorageError('CANCELLED', 'the job has left the drive'));
      await serving;
      this.#leave(drive, holder);
    }
  }

  /** A job has the drive, and waits for a cartridge in it. */
  waitsForMedium({ path }: TargetRecord): boolean {
    return this.#drives.get(path)?.holder?.isParked === true;
  }

  /** Runs what hands do. @throws TARGET_IN_USE while a job has the drive */
  async hands<T>(target: TargetRecord, work: () => Promise<T>): Promise<T> {
    const drive = this.#drive(target.path);
    return drive.hands.run(async () => {
      await haveLooked(drive.holder);
      const { holder } = drive;
      if (holder !== undefined && !holder.isParked) {
        throw new StorageError('TARGET_IN_USE', `a job uses the drive of ${target.name}`, {
          target: target.name,
          job: holder.job,
        });
      }
      try {
        return await work();
      } finally {
        if (holder !== undefined) holder.handsAtMs = systemClock.nowMs();
        this.#tell(drive);
      }
    });
  }

  /** Runs what is done without the drive, and has jobs that wait for a cartridge look again. */
  async withoutDrive<T>(target: TargetRecord, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#tell(this.#drive(target.path));
    }
  }

  /** Resolves when hands have done something with the drive. */
  nextChange(target: TargetRecord): Promise<undefined> {
    return this.#drive(target.path).changed.promise;
  }

  /**
   * Runs a job's work with the drive, in its turn or while another job waits for a cartridge: that
   * one may wait for just this, as for a scan.
   */
  async visit<T>(
    context: JobContext<RowChange>,
    target: TargetRecord,
    work: () => Promise<T>,
  ): Promise<T> {
    const drive = this.#drive(target.path);
    if (drive.holder === undefined) return this.hold(context, target, work);
    const holder = newHolder(context, undefined);
    const turn = deferred<undefined>();
    drive.queue.push({ holder, turn });
    const since = rfc3339(systemClock.nowMs());
    const waitingFor = { kind: 'drive', target: target.name, since };
    try {
      while (drive.holder !== holder) {
        const done = await this.#beside(drive, work);
        if (done !== undefined) return done.value;
        const change = Promise.race([turn.promise, drive.parked.promise]);
        await context.waitFor(waitingFor, change);
      }
      await drive.hands.run(async () => undefined);
      return await work();
    } finally {
      this.#leave(drive, holder);
    }
  }

  /** While the job that has the drive is parked; undefined if it is not. */
  async #beside<T>(drive: Drive, work: () => Promise<T>): Promise<{ value: T } | undefined> {
    if (drive.holder?.isParked !== true) return undefined;
    return drive.hands.run(async () => {
      if (drive.holder?.isParked !== true) return undefined;
      try {
        return { value: await work() };
      } finally {
        this.#tell(drive);
      }
    });
  }

  async #take(
    drive: Drive,
    holder: Holder,
    context: JobContext<RowChange>,
    target: TargetRecord,
  ): Promise<void> {
    if (drive.holder === undefined) drive.holder = holder;
    else {
      const turn = deferred<undefined>();
      drive.queue.push({ holder, turn });
      const waitingFor = {
        kind: 'drive',
        target: target.name,
        since: rfc3339(systemClock.nowMs()),
      };
      await context.waitFor(waitingFor, turn.promise);
    }
    // Hands that began before have the drive still.
    await drive.hands.run(async () => undefined);
  }

  #leave(drive: Drive, holder: Holder): void {
    const place = drive.queue.findIndex((each) => each.holder === holder);
    if (place >= 0) drive.queue.splice(place, 1);
    holder.looking?.resolve(undefined);
    if (drive.holder !== holder) return;
    const next = drive.queue.shift();
    drive.holder = next?.holder;
    next?.turn.resolve(undefined);
  }

  /** Resolves when the drive may hold the cartridge. */
  async #serve(asked: Asked): Promise<undefined> {
    const { holder, context, needed } = asked;
    const { fetcher } = holder;
    if (fetcher === undefined) return this.#park(asked);
    const { signal } = context;
    const log = (line: string): void => {
      context.log(line);
    };
    const progressed = (): void => {
      context.progress({});
    };
    for (let looks = 0; ; looks += 1) {
      const leaveLoaded = systemClock.nowMs() - holder.handsAtMs < HANDS_MS;
      if (await fetcher.fetch(needed, { leaveLoaded, signal, log, progressed })) return undefined;
      if (looks === 0) logNeed(context, needed);
      const { handsAtMs } = holder;
      await this.#park(asked);
      // What hands have loaded the job itself looks at; of all else the changer tells, if it can.
      if (holder.handsAtMs !== handsAtMs || fetcher.problem !== null) return undefined;
    }
  }

  async #park({ drive, holder, context, target, needed, since }: Asked): Promise<undefined> {
    const { set, volumeNumber, label, reason, code } = needed;
    const waitingFor = {
      kind: 'medium',
      target: target.name,
      set,
      volumeNumber,
      label,
      reason: holder.fetcher?.problem ?? reason,
      code,
      since,
    };
    holder.isParked = true;
    const { parked } = drive;
    drive.parked = deferred();
    parked.resolve(undefined);
    holder.looking?.resolve(undefined);
    holder.looking = undefined;
    try {
      const left = holder.left.signal;
      const signal = AbortSignal.any([context.signal, left]);
      const changed = untilChanged(drive, holder, signal, target, needed);
      await context.waitFor(waitingFor, untilAborted(changed, left));
    } finally {
      // Hands that are at it finish first.
      await drive.hands.run(async () => {
        holder.isParked = false;
        holder.looking = deferred();
      });
    }
    return undefined;
  }

  #tell(drive: Drive): void {
    const { changed } = drive;
    drive.changed = deferred();
    changed.resolve(undefined);
  }

  #drive(path: string): Drive {
    const there = this.#drives.get(path);
    if (there !== undefined) return there;
    const made: Drive = {
      holder: undefined,
      queue: [],
      hands: new Mutex(),
      changed: deferred(),
      parked: deferred(),
    };
    this.#drives.set(path, made);
    return made;
  }
}

/** One step of hands follows the other: a job that was woken by the first may look first. */
async function haveLooked(holder: Holder | undefined): Promise<void> {
  if (holder?.looking === undefined) return;
  const stop = new AbortController();
  const { signal } = stop;
  const over = delay(LOOKING_MS, undefined, { signal }).catch(() => undefined);
  await Promise.race([holder.looking.promise, over]);
  stop.abort();
  // If it has not parked again it goes on: later hands need not wait.
  if (!holder.isParked) holder.looking = undefined;
}

function newHolder(context: JobContext<RowChange>, fetcher: CartridgeFetcher | undefined): Holder {
  const { id: job } = context.job;
  const state = { isParked: false, looking: undefined, handsAtMs: -Infinity };
  return { job, fetcher, left: new AbortController(), ...state };
}

/** Until the drive may hold another cartridge, or the changer could fetch one. */
async function untilChanged(
  drive: Drive,
  { fetcher }: Holder,
  signal: AbortSignal,
  { kind }: TargetRecord,
  needed: NeededMedium,
): Promise<void> {
  const change = drive.changed.promise;
  if (fetcher === undefined && kind === 'virtual-tape') return change;
  for (;;) {
    const pauseMs = (fetcher?.problem ?? null) === null ? LOOK_AGAIN_MS : AFTER_PROBLEM_MS;
    const pause = delay(pauseMs, 'over', { signal, ref: false });
    if ((await Promise.race([change, pause])) !== 'over') return;
    if (fetcher === undefined || (await fetcher.sees(needed))) return;
  }
}

function logNeed(context: JobContext<RowChange>, needed: NeededMedium): void {
  context.log(`needs ${nameOf(needed)}: ${needed.reason}`);
}

function nameOf({ set, volumeNumber, label }: NeededMedium): string {
  if (label !== null) return `cartridge ${label}`;
  return `a new cartridge, labelled as number ${volumeNumber} of set ${set}`;
}
