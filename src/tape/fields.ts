/**
 * JSON in records: made in one spelling, read field by field with every bound checked.
 *
 * Invariants:
 *  1. A reader gives a value within its bounds, or notes the field that is wrong; nothing else.
 *  2. Fields that a reader does not ask for are ignored: later versions may add some.
 */
import { isUuid, rfc3339 } from '../base/clock.ts';

export type Json = Readonly<Record<string, unknown>>;

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** True for names of sets, cartridges and backups. */
export function isTapeName(text: string): boolean {
  return NAME.test(text);
}

/** A UUID in the one spelling that is written. */
export function isPlainUuid(text: string): boolean {
  return isUuid(text) && text === text.toLowerCase();
}

/** The text of a payload: what a person can read in a dump. */
export function encodeJson(value: Json): Buffer {
  return Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** The object in these bytes, or undefined if they hold none. */
export function decodeJson(bytes: Uint8Array): Json | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const value: unknown = JSON.parse(text);
    return isJsonObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function isJsonObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads the fields of one object; afterwards `problem` names the first wrong one. */
export class FieldReader {
  problem: string | undefined;
  readonly #json: Json;

  constructor(json: Json) {
    this.#json = json;
  }

  name(field: string): string {
    return this.#text(field, isTapeName);
  }

  uuid(field: string): string {
    return this.#text(field, isPlainUuid);
  }

  uuidOrNull(field: string): string | null {
    return this.#json[field] === null ? null : this.uuid(field);
  }

  /** Lower-case hexadecimal of just that many bytes. */
  hex(field: string, bytes: number): string {
    return this.#text(field, (text) => text.length === bytes * 2 && /^[0-9a-f]*$/.test(text));
  }

  /** An integer from `least` to `most`. */
  number(field: string, least = 0, most = Number.MAX_SAFE_INTEGER): number {
    const value = this.#json[field];
    const isGood = typeof value === 'number' && Number.isSafeInteger(value);
    return isGood && value >= least && value <= most ? value : this.#wrong(field, least);
  }

  /** Milliseconds since 1970 of a time in the one spelling that is written. */
  time(field: string): number {
    const ms = Date.parse(this.#text(field, isTime));
    return Number.isNaN(ms) ? 0 : ms;
  }

  timeOrNull(field: string): number | null {
    return this.#json[field] === null ? null : this.time(field);
  }

  /** An object as it is, or null. */
  objectOrNull(field: string): Json | null {
    const value = this.#json[field];
    if (value === null || isJsonObject(value)) return value;
    return this.#wrong(field, null);
  }

  #text(field: string, isGood: (text: string) => boolean): string {
    const value = this.#json[field];
    return typeof value === 'string' && isGood(value) ? value : this.#wrong(field, '');
  }

  #wrong<T>(field: string, instead: T): T {
    this.problem ??= field;
    return instead;
  }
}

function isTime(text: string): boolean {
  const ms = Date.parse(text);
  return !Number.isNaN(ms) && ms >= 0 && rfc3339(ms) === text;
}
