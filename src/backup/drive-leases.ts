/**
 * What jobs and hands ask of the drives of tape targets.
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
 * Invariant: the worker of a job and hands never have a drive at the same time (shared-drive.ts).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { rfc3339, systemClock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import { untilAborted } from '../base/mutex.ts';
import type { JobContext } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { CartridgeFetcher } from '../target/cartridge-fetch.ts';
import type { NeededMedium } from '../target/tape-drive-use.ts';
import type { TargetRecord } from './records.ts';
import { DriveUser, SharedDrive } from './shared-drive.ts';
import type { DriveWait } from './shared-drive.ts';

/** A real drive is looked at so often: who loads a cartridge by hand tells nobody. */
const LOOK_AGAIN_MS = 5000;

/** A changer or drive with which something is the matter is left alone for so long. */
const AFTER_PROBLEM_MS = 30_000;

/** Hands that were at the drive of a waiting job may come again: what they loaded is left there. */
const HANDS_MS = 60_000;

/** A job with the drive, and what it needs. */
interface Asked {
  readonly drive: SharedDrive;
  readonly user: DriveUser;
  readonly fetcher: CartridgeFetcher | undefined;
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
  readonly #drives = new Map<string, SharedDrive>();

  /** Runs a job's work with the drive. Waits for it; an interrupted job leaves the queue. */
  async hold<T>(
    context: JobContext<RowChange>,
    target: TargetRecord,
    work: (lease: Lease) => Promise<T>,
    fetcher?: CartridgeFetcher,
  ): Promise<T> {
    const drive = this.#drive(target);
    const user = new DriveUser(context.job.id);
    /** A changer that moves something is waited for, whatever becomes of the job. */
    let serving: Promise<unknown> = Promise.resolve();
    try {
      await drive.take(user, waitFor(context, target));
      let since: { readonly of: string; readonly at: string } | undefined;
      return await work({
        wait: async (needed) => {
          const of = JSON.stringify([needed.set, needed.volumeNumber]);
          if (since?.of !== of) {
            // A changer tells what it does; only what it does not find is needed.
            if (fetcher === undefined) logNeed(context, needed);
            since = { of, at: rfc3339(systemClock.nowMs()) };
          }
          const served = serve({ drive, user, fetcher, context, target, needed, since: since.at });
          serving = served.catch(() => undefined);
          return served;
        },
      });
    } finally {
      user.left.abort(new StorageError('CANCELLED', 'the job has left the drive'));
      await serving;
      drive.leave(user);
    }
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
    const drive = this.#drive(target);
    const user = new DriveUser(context.job.id);
    try {
      return await drive.visit(user, waitFor(context, target), work);
    } finally {
      drive.leave(user);
    }
  }

  /** A job has the drive, and waits for a cartridge in it. */
  waitsForMedium({ path }: TargetRecord): boolean {
    return this.#drives.get(path)?.user?.isParked === true;
  }

  /** Runs what hands do. @throws TARGET_IN_USE while a job has the drive */
  async hands<T>(target: TargetRecord, work: () => Promise<T>): Promise<T> {
    return this.#drive(target).hands(work, ({ job }) => {
      const { name } = target;
      const message = `a job uses the drive of ${name}`;
      throw new StorageError('TARGET_IN_USE', message, { target: name, job });
    });
  }

  /** Runs what is done without the drive, and has jobs that wait for a cartridge look again. */
  async withoutDrive<T>(target: TargetRecord, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#drive(target).tell();
    }
  }

  /** Resolves when hands have done something with the drive. */
  nextChange(target: TargetRecord): Promise<undefined> {
    return this.#drive(target).changed;
  }

  #drive({ path }: TargetRecord): SharedDrive {
    const drive = this.#drives.get(path) ?? new SharedDrive();
    this.#drives.set(path, drive);
    return drive;
  }
}

/** How a job waits for its turn. */
function waitFor(context: JobContext<RowChange>, target: TargetRecord): DriveWait {
  const since = rfc3339(systemClock.nowMs());
  return async (change) => context.waitFor({ kind: 'drive', target: target.name, since }, change);
}

/** Resolves when the drive may hold the cartridge. */
async function serve(asked: Asked): Promise<undefined> {
  const { user, fetcher, context, needed } = asked;
  if (fetcher === undefined) return park(asked);
  const { signal } = context;
  const log = (line: string): void => {
    context.log(line);
  };
  const progressed = (): void => {
    context.progress({});
  };
  for (let looks = 0; ; looks += 1) {
    const leaveLoaded = systemClock.nowMs() - user.handsAtMs < HANDS_MS;
    if (await fetcher.fetch(needed, { leaveLoaded, signal, log, progressed })) return undefined;
    if (looks === 0) logNeed(context, needed);
    const { handsAtMs } = user;
    await park(asked);
    // What hands have loaded the job itself looks at; of all else the changer tells, if it can.
    if (user.handsAtMs !== handsAtMs || fetcher.problem !== null) return undefined;
  }
}

/** Leaves the drive to hands until the cartridge may be there. */
async function park(asked: Asked): Promise<undefined> {
  const { drive, user, fetcher, context, target, needed, since } = asked;
  const { set, volumeNumber, label, code } = needed;
  const reason = fetcher?.problem ?? needed.reason;
  const about = { set, volumeNumber, label, reason, code, since };
  await drive.park(user, async () => {
    const left = user.left.signal;
    const changed = untilChanged(asked, AbortSignal.any([context.signal, left]));
    const waitingFor = { kind: 'medium', target: target.name, ...about };
    await context.waitFor(waitingFor, untilAborted(changed, left));
  });
  return undefined;
}

/** Until the drive may hold another cartridge, or the changer could fetch one. */
async function untilChanged(asked: Asked, signal: AbortSignal): Promise<void> {
  const { drive, fetcher, target, needed } = asked;
  const change = drive.changed;
  if (fetcher === undefined && target.kind === 'virtual-tape') return change;
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
