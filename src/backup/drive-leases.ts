/**
 * Who has the drive of a tape target: one job at a time, and hands while no job uses it.
 *
 *  1. A job takes the lease before its worker opens the drive, in order of coming; until then it
 *     waits for the drive, by name.
 *  2. A job that needs another cartridge parks: its worker has closed the drive, and hands may load
 *     and label. Each time they have done something, it looks again.
 *  3. Hands are refused while a job has the drive and is not parked.
 *
 * Invariant: the worker of a job and hands never have a drive at the same time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { rfc3339, systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { deferred, Mutex } from '../base/mutex.ts';
import type { Deferred } from '../base/mutex.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { NeededMedium } from '../target/tape-drive-use.ts';
import type { TargetRecord } from './records.ts';

/** A real drive is looked at so often: who loads a cartridge by hand tells nobody. */
const LOOK_AGAIN_MS = 5000;

/** So long hands wait for a job that looks at what they have done; then they are refused. */
const LOOKING_MS = 2000;

interface Holder {
  readonly job: string;
  isParked: boolean;
  /** Its work has ended, and nothing that it still waits for matters. */
  readonly left: Deferred<undefined>;
  /** While it looks at what hands have done: resolved when it parks again or leaves. */
  looking: Deferred<undefined> | undefined;
}

interface Drive {
  holder: Holder | undefined;
  readonly queue: { readonly holder: Holder; readonly turn: Deferred<undefined> }[];
  /** Hands, and who comes back from being parked. */
  readonly hands: Mutex;
  changed: Deferred<undefined>;
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
  ): Promise<T> {
    const drive = this.#drive(target.path);
    const left = deferred<undefined>();
    const holder: Holder = { job: context.job.id, isParked: false, left, looking: undefined };
    try {
      await this.#take(drive, holder, context, target);
      let since: { readonly of: string; readonly at: string } | undefined;
      return await work({
        wait: async (needed) => {
          const of = JSON.stringify([needed.set, needed.volumeNumber]);
          if (since?.of !== of) {
            context.log(`needs ${nameOf(needed)}: ${needed.reason}`);
            since = { of, at: rfc3339(systemClock.nowMs()) };
          }
          return this.#park(drive, holder, context, target, needed, since.at);
        },
      });
    } finally {
      left.resolve(undefined);
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
        this.#tell(drive);
      }
    });
  }

  /** Resolves when hands have done something with the drive. */
  nextChange(target: TargetRecord): Promise<undefined> {
    return this.#drive(target.path).changed.promise;
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

  async #park(
    drive: Drive,
    holder: Holder,
    context: JobContext<RowChange>,
    target: TargetRecord,
    needed: NeededMedium,
    since: string,
  ): Promise<undefined> {
    const { set, volumeNumber, label, reason, code } = needed;
    const waitingFor = {
      kind: 'medium',
      target: target.name,
      set,
      volumeNumber,
      label,
      reason,
      code,
      since,
    };
    const change = drive.changed.promise;
    holder.isParked = true;
    holder.looking?.resolve(undefined);
    holder.looking = undefined;
    try {
      const { signal } = context;
      const isTape = target.kind === 'tape';
      const again = isTape ? [delay(LOOK_AGAIN_MS, undefined, { signal, ref: false })] : [];
      await context.waitFor(waitingFor, Promise.race([change, holder.left.promise, ...again]));
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

function nameOf({ set, volumeNumber, label }: NeededMedium): string {
  if (label !== null) return `cartridge ${label}`;
  return `a new cartridge, labelled as number ${volumeNumber} of set ${set}`;
}
