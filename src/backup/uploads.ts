/**
 * Restores whose image comes as the body of a request, applied as it arrives.
 *
 * The work is a job like any other restore; its bytes come over a channel from the request. A cut
 * request leaves the job waiting, with all whole segments durable; it goes on where the client is
 * told to (`receivedBytes`), also after a restart of the daemon.
 *
 * Invariants:
 *  1. A push resolves when its bytes are taken: back-pressure reaches the client.
 *  2. At most one request feeds a job; a new one cuts an old one off.
 *  3. Nothing is visible before the last byte is durable.
 *  4. Of the jobs begun with one key at most one is live: who begins anew ends the one before.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { StorageError } from '../base/errors.ts';
import { deferred } from '../base/mutex.ts';
import { rfc3339 } from '../base/clock.ts';
import type { ImageFacts } from '../image/format.ts';
import { ImageStreamReader, type ImageStreamState } from '../image/stream-reader.ts';
import {
  isEnd,
  isJsonObject,
  type Job,
  type Json,
  type JsonObject,
  textsOf,
  toJson,
} from '../job/job.ts';
import { type JobContext, JobInterrupt } from '../job/job-run.ts';
import type { RowChange } from '../pool/metadata-store.ts';
import type { Backups } from './backups.ts';
import { submitRestore } from './submit-restore.ts';
import { markRow } from './restore-mark.ts';
import { assertRoom, planRestore, type RestorePlan, type RestoreRequest } from './restore-plan.ts';
import { RestoreSession } from './restore-session.ts';
import { finishRestore, type Restored, restoredJson } from './restore-target.ts';
import {
  Channel,
  cut,
  type Message,
  settleBadly,
  type UploadRows,
  whyStopped,
} from './upload-channel.ts';

const HOUR_MS = 60 * 60 * 1000;

/** Of a request with an Idempotency-Key; its job remembers it. */
export interface UploadKey {
  /** Of whom and for what it is. */
  readonly place: string;
  /** Of the request, its body left out: a repeat has the same. */
  readonly digest: string;
}

/** What the API holds of an upload. */
export interface UploadSession {
  readonly job: Job;
  readonly receivedBytes: number;
  push(chunk: Uint8Array): Promise<void>;
  finish(rows?: UploadRows): Promise<{ job: Job; restored: Restored }>;
  abort(reason: StorageError): Promise<void>;
}

export class Uploads {
  readonly #backups: Backups;
  readonly #channels = new Map<string, Channel>();
  readonly #waitMs: number;

  /** @param waitMs an upload of which no byte comes for so long has failed */
  constructor(backups: Backups, waitMs = 24 * HOUR_MS) {
    this.#backups = backups;
    this.#waitMs = waitMs;
  }

  /**
   * @param key a live job with the same one is this upload's earlier attempt, and is ended
   * @throws as planRestore; POOL_FULL if an image of this length cannot fit;
   *   IDEMPOTENCY_KEY_REUSED; JOB_STATE: the earlier attempt was paused
   */
  async begin(
    request: RestoreRequest,
    imageBytes: number | undefined,
    key?: UploadKey,
  ): Promise<UploadSession> {
    const { copies } = this.#backups.options;
    if (key !== undefined) await this.#endEarlier(key);
    await this.#backups.endFencing(request);
    const plan = planRestore(copies, { kind: 'upload' }, request);
    if (imageBytes !== undefined && request.method !== 'write-back') {
      // tables and heads are at most two parts in a hundred of an image
      assertRoom(
        copies,
        copies.options.pools.get(plan.pool),
        Math.floor(imageBytes * 0.97) - 65536,
      );
    }
    const channel = new Channel();
    channel.connect();
    const parameters = key === undefined ? {} : { key: { ...key } };
    const job = await submitRestore(this.#backups, plan, request, { parameters }, (made) => {
      this.#channels.set(made.id, channel);
      return [];
    });
    return this.#session(job, channel);
  }

  async #endEarlier({ place, digest }: UploadKey): Promise<void> {
    for (const { id, state, parameters } of this.#backups.options.runner().liveJobs()) {
      const key = textsOf(isJsonObject(parameters) ? parameters['key'] : undefined);
      if (key['place'] !== place) continue;
      if (key['digest'] !== digest) {
        const message = `the Idempotency-Key is that of another upload, of job ${id}`;
        throw new StorageError('IDEMPOTENCY_KEY_REUSED', message, { job: id });
      }
      if (state === 'paused') throw whyStopped(new JobInterrupt('pause'), id);
      await this.#backups.endJob(id);
    }
  }

  /** @throws NOT_FOUND, JOB_STATE, RANGE_INVALID with `receivedBytes` */
  async continue(id: string, fromByte: number): Promise<UploadSession> {
    const job = await this.#backups.options.runner().get(id);
    const channel = this.#channels.get(id);
    if (channel === undefined || isEnd(job.state)) {
      throw new StorageError('JOB_STATE', `job ${id} takes no upload: it is ${job.state}`, {
        job: id,
        state: job.state,
      });
    }
    if (channel.isConnected) await cut(channel);
    if (fromByte !== channel.receivedBytes) {
      throw new StorageError('RANGE_INVALID', `the upload goes on at ${channel.receivedBytes}`, {
        job: id,
        receivedBytes: channel.receivedBytes,
      });
    }
    channel.connect();
    return this.#session(job, channel);
  }

  /** The work of the job. */
  async run(context: JobContext<RowChange>, plan: RestorePlan): Promise<Json> {
    const { id } = context.job;
    const channel = this.#channels.get(id) ?? new Channel();
    this.#channels.set(id, channel);
    try {
      const result = await new UploadRun(this.#backups, context, plan, channel).run(this.#waitMs);
      this.#channels.delete(id);
      return result;
    } catch (error) {
      channel.fail(whyStopped(error, id));
      this.#channels.delete(id);
      throw error;
    }
  }

  /** A job that ended without running tells whoever still sends. */
  ended(job: Job): void {
    this.#channels
      .get(job.id)
      ?.fail(new StorageError('CANCELLED', `job ${job.id} was ${job.state}`, { job: job.id }));
    this.#channels.delete(job.id);
  }

  #session(job: Job, channel: Channel): UploadSession {
    const runner = this.#backups.options.runner();
    return {
      job,
      get receivedBytes() {
        return channel.receivedBytes;
      },
      async push(bytes) {
        const taken = deferred<undefined>();
        channel.send({ kind: 'bytes', bytes, taken });
        await taken.promise;
      },
      async finish(rows = () => []) {
        const done = deferred<Restored>();
        channel.send({ kind: 'end', rows, done });
        const restored = await done.promise;
        return { job: await runner.wait(job.id, 5000), restored };
      },
      async abort(reason) {
        const kept = reason.code === 'BODY_TRUNCATED' || reason.code === 'SHUTTING_DOWN';
        if (!channel.hasEnded) {
          if (kept) await cut(channel).catch(() => undefined);
          else channel.send({ kind: 'fail', reason });
        }
        // the names are free again before the answer
        if (!kept && reason.code !== 'JOB_STATE') await runner.wait(job.id, 5000);
      },
    };
  }
}

/** One attempt of an upload's job. */
class UploadRun {
  readonly #backups: Backups;
  readonly #context: JobContext<RowChange>;
  readonly #plan: RestorePlan;
  readonly #channel: Channel;
  readonly #session: RestoreSession;
  /** Or when the attempt began. */
  #lastByteMs: number;
  #reader: ImageStreamReader;
  /** Where the reader could go on; kept when the image is complete but its request was cut. */
  #state: ImageStreamState | undefined;

  constructor(
    backups: Backups,
    context: JobContext<RowChange>,
    plan: RestorePlan,
    channel: Channel,
  ) {
    this.#backups = backups;
    this.#context = context;
    this.#plan = plan;
    this.#channel = channel;
    this.#session = new RestoreSession(backups, context, plan, false);
    this.#lastByteMs = backups.options.clock.nowMs();
    this.#state = readState(context.job);
    this.#reader = this.#readerFrom(this.#state);
    channel.receivedBytes = this.#reader.confirmedBytes;
  }

  async run(waitMs: number): Promise<Json> {
    if (this.#state !== undefined) await this.#session.begin(this.#state.facts);
    for (;;) {
      if (!this.#channel.isConnected) await this.#waitForClient(waitMs);
      const message = await this.#receive();
      try {
        if (message.kind === 'bytes') {
          await this.#take(message.bytes);
          message.taken.resolve(undefined);
        } else if (message.kind === 'cut') {
          await this.#cut();
          message.taken.resolve(undefined);
        } else if (message.kind === 'fail') {
          throw message.reason;
        } else {
          return await this.#end(message);
        }
      } catch (error) {
        this.#channel.receivedBytes = this.#readerFrom(readState(this.#context.job)).confirmedBytes;
        settleBadly(message, whyStopped(error, this.#context.job.id));
        throw error;
      }
    }
  }

  /** The next message; a job that is to stop meanwhile remembers all that it has taken. */
  async #receive(): Promise<Message> {
    try {
      return await this.#channel.receive(this.#context.signal);
    } catch (error) {
      if (error instanceof JobInterrupt && error.reason !== 'cancel') await this.#rewind();
      throw error;
    }
  }

  /** As long as nothing came for so long, in this life, counted from the last byte. */
  async #waitForClient(waitMs: number): Promise<void> {
    const { signal } = this.#context;
    const { clock } = this.#backups.options;
    const { receivedBytes } = this.#channel;
    const leftMs = Math.max(0, waitMs - (clock.nowMs() - this.#lastByteMs));
    const until = rfc3339(this.#lastByteMs + waitMs);
    const waitingFor = { kind: 'upload', receivedBytes, since: rfc3339(clock.nowMs()), until };
    const tooLate = new AbortController();
    const timeout = delay(leftMs, undefined, {
      ref: false,
      signal: AbortSignal.any([signal, tooLate.signal]),
    }).then(() => {
      const hours = Math.round(waitMs / HOUR_MS);
      const message = `nothing came for ${hours} hours: the upload was given up`;
      throw new StorageError('BODY_TRUNCATED', message);
    });
    timeout.catch(() => undefined);
    try {
      const connected = this.#channel.connected;
      await this.#context.waitFor(waitingFor, Promise.race([connected, timeout]));
    } finally {
      tooLate.abort();
    }
  }

  async #take(bytes: Uint8Array): Promise<void> {
    for (const event of this.#reader.push(bytes)) {
      if (event.kind === 'header') await this.#begin(event.facts);
      if (event.kind !== 'segment') continue;
      const { segment, sourceBlocks, bad, damaged, data } = event.segment;
      await this.#session.write(segment, { sourceBlocks, bad: [...bad], data }, damaged);
    }
    this.#state = this.#reader.state ?? this.#state;
    this.#channel.receivedBytes += bytes.length;
    this.#lastByteMs = this.#backups.options.clock.nowMs();
    if (this.#session.mustSave) await this.#save();
  }

  /** @throws BASE_MISSING: what the image does not hold is on a target, if anywhere */
  async #begin(facts: ImageFacts): Promise<void> {
    const { base } = facts;
    if (base === null) return this.#session.begin(facts);
    const message = 'the image is incremental: by itself it is not a whole disk';
    throw new StorageError('BASE_MISSING', message, {
      reason: 'upload',
      copyId: facts.copyId,
      base: { ...base },
    });
  }

  async #cut(): Promise<void> {
    await this.#rewind();
    this.#channel.disconnect();
  }

  /** Forgets the part of a structure that was cut; whole segments are durable and stay. */
  async #rewind(): Promise<void> {
    await this.#save();
    this.#reader = this.#readerFrom(this.#state);
    this.#channel.receivedBytes = this.#reader.confirmedBytes;
  }

  async #end(message: Extract<Message, { kind: 'end' }>): Promise<Json> {
    for (const event of this.#reader.finish()) {
      if (event.kind !== 'segment') continue;
      const { segment, sourceBlocks, bad, damaged, data } = event.segment;
      await this.#session.write(segment, { sourceBlocks, bad: [...bad], data }, damaged);
    }
    const { disk, facts } = await this.#session.end();
    const { copies } = this.#backups.options;
    const damaged = this.#session.damagedJson();
    const { job } = this.#context;
    const resultOf = (made: Restored): JsonObject => {
      return { ...restoredJson(made), method: this.#plan.method, damaged };
    };
    const restored = await finishRestore(copies, this.#plan, disk, facts, (made) => [
      markRow(job.id, resultOf(made)),
      ...message.rows(job, made),
    ]);
    message.done.resolve(restored);
    return resultOf(restored);
  }

  async #save(): Promise<void> {
    await this.#session.save(this.#state === undefined ? {} : { upload: toJson(this.#state) });
  }

  #readerFrom(state: ImageStreamState | undefined): ImageStreamReader {
    const options = {
      onDamage: this.#plan.onDamage,
      onProblem: ({ lost }: { lost: readonly { sourceOffset: number; length: number }[] }) => {
        this.#session.lose(lost);
      },
    };
    if (state === undefined) return new ImageStreamReader(options);
    return ImageStreamReader.resume(state, options);
  }
}

/** Our own checkpoint of an upload. */
function readState(job: Job): ImageStreamState | undefined {
  const { checkpoint } = job;
  const state = isJsonObject(checkpoint) ? checkpoint['upload'] : undefined;
  return isState(state) ? withBase(state) : undefined;
}

/** A checkpoint of an earlier version is of a full image and does not say so. */
function withBase(state: ImageStreamState): ImageStreamState {
  const stored: Partial<ImageFacts> = state.facts;
  const { base = null, zeroRanges = 0, copyBlocks = state.facts.usedBlocks } = stored;
  return { ...state, facts: { ...state.facts, base, zeroRanges, copyBlocks } };
}

function isState(value: unknown): value is ImageStreamState {
  return typeof value === 'object' && value !== null && 'facts' in value && 'segment' in value;
}
