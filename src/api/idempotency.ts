/**
 * `Idempotency-Key`: a POST repeated with its key has one effect and one answer.
 *
 *  1. The key is taken (in memory) for its scope: token, method, path. A second request meanwhile
 *     gets 409 IDEMPOTENCY_IN_PROGRESS.
 *  2. A record younger than 24 h is answered again, or refused with 422 if the request differs.
 *  3. Otherwise the request runs. The record (status, headers, body) is committed in the
 *     transaction of the effect; where nothing had to be changed, by itself before the answer.
 *  4. Refusals are not recorded: the same key may try again.
 *
 * Invariants: (1) effect and record exist together or not at all; (2) the body that is answered
 * first is byte for byte the body of every repeat.
 */
import { createHash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { Row, RowChange } from '../pool/metadata-store.ts';
import type { Effects, RecordStore } from './service-types.ts';

const TABLE = 'idempotency';

/** What a route answers. */
export interface Outcome {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Undefined: no body. */
  readonly body?: unknown;
}

/** An outcome as bytes, ready to be sent or kept. */
export interface Recorded {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | null;
  readonly isReplay: boolean;
}

export interface KeyedRequest {
  /** Of the Idempotency-Key header. */
  readonly key: string;
  /** Token, method and path. */
  readonly scope: string;
  /** SHA-256 over method, path, query and body. */
  readonly digest: string;
}

/** How a route acts: the effect, its answer, and what may still be added to the answer. */
export interface Act<T> {
  run(effects: Effects<T> | undefined): Promise<T>;
  describe(result: T): Outcome;
  /** A later answer than that of the deciding step, once the effect is there (`Prefer: wait`). */
  later?(result: T): Promise<Outcome>;
}

export function digestOfRequest(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('base64url');
}

/** @throws VALIDATION_FAILED unless 1 to 255 printable ASCII characters */
export function checkKey(key: string): string {
  if (/^[\x20-\x7e]{1,255}$/.test(key)) return key;
  throw new StorageError('VALIDATION_FAILED', 'Idempotency-Key: 1 to 255 printable characters', {
    field: 'Idempotency-Key',
  });
}

export class Idempotency {
  readonly #source: { readonly records: RecordStore };
  readonly #clock: Clock;
  readonly #lifetimeMs: number;
  readonly #running = new Map<string, string>();

  constructor(source: { readonly records: RecordStore }, clock: Clock, lifetimeMs: number) {
    this.#source = source;
    this.#clock = clock;
    this.#lifetimeMs = lifetimeMs;
  }

  /**
   * Answers a request, from its record or by acting.
   * @throws IDEMPOTENCY_IN_PROGRESS, IDEMPOTENCY_KEY_REUSED, and what the act throws
   */
  async answer<T>(request: KeyedRequest | undefined, act: Act<T>): Promise<Recorded> {
    if (request === undefined) {
      const result = await act.run(undefined);
      return bytesOf(await (act.later?.(result) ?? act.describe(result)));
    }
    const place = `${request.scope}\n${request.key}`;
    this.#take(place, request.digest);
    try {
      return (await this.#find(request)) ?? (await this.#run(request, act));
    } finally {
      this.#running.delete(place);
    }
  }

  #take(place: string, digest: string): void {
    const running = this.#running.get(place);
    if (running === undefined) {
      this.#running.set(place, digest);
      return;
    }
    if (running !== digest) throw keyReused();
    throw new StorageError('IDEMPOTENCY_IN_PROGRESS', 'the request with this key still runs');
  }

  async #find({ scope, key, digest }: KeyedRequest): Promise<Recorded | undefined> {
    const [row] = await this.#source.records.rows(TABLE, { scope, key });
    if (row === undefined || this.#isOld(row)) return undefined;
    if (row.request_digest !== digest) throw keyReused();
    return recordedOf(row);
  }

  async #run<T>(request: KeyedRequest, act: Act<T>): Promise<Recorded> {
    let recorded: Recorded | undefined;
    const result = await act.run((made) => {
      assert(recorded === undefined, 'effects were asked for twice');
      recorded = bytesOf(act.describe(made));
      return [this.#change(request, recorded)];
    });
    if (recorded !== undefined && act.later === undefined) return recorded;
    const answer = bytesOf(await (act.later?.(result) ?? act.describe(result)));
    // Without an effect, or with an answer that went on after it, the record is brought up to date.
    if (recorded === undefined || !isSame(recorded, answer)) {
      await this.#source.records.commit({ pages: [], rows: [this.#change(request, answer)] });
    }
    return answer;
  }

  #change({ scope, key, digest }: KeyedRequest, recorded: Recorded): RowChange {
    return {
      table: TABLE,
      key: { scope, key },
      row: {
        request_digest: digest,
        status: recorded.status,
        headers: JSON.stringify(recorded.headers),
        body: recorded.body,
        created_at: this.#clock.nowMs(),
      },
    };
  }

  #isOld(row: Row): boolean {
    const age = this.#clock.nowMs() - Number(row.created_at);
    return age >= this.#lifetimeMs;
  }
}

function keyReused(): StorageError {
  return new StorageError(
    'IDEMPOTENCY_KEY_REUSED',
    'the Idempotency-Key was used for a request with another path, query or body',
  );
}

function bytesOf({ status, headers, body }: Outcome): Recorded {
  const bytes = body === undefined ? null : Buffer.from(JSON.stringify(body));
  return { status, headers, body: bytes, isReplay: false };
}

function recordedOf(row: Row): Recorded {
  const { status, headers, body } = row;
  assert(typeof status === 'number' && typeof headers === 'string', 'idempotency record');
  const fields: Record<string, string> = {};
  const parsed: unknown = JSON.parse(headers);
  for (const [name, value] of Object.entries(parsed ?? {})) fields[name] = String(value);
  const bytes = body instanceof Uint8Array ? body : null;
  return { status, headers: fields, body: bytes, isReplay: true };
}

function isSame(a: Recorded, b: Recorded): boolean {
  if (a.body === null || b.body === null) return a.body === b.body;
  return Buffer.compare(a.body, b.body) === 0;
}
