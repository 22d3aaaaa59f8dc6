/**
 * As much of an HTTP client as the demo needs: JSON, a file as a body, a body as a file.
 */
import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { Agent, request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';

/** One object of an answer, read field by field. */
export class Answer {
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    if (typeof value !== 'object' || value === null) throw new Error('an object was expected');
    this.#fields = Object.fromEntries(Object.entries(value));
  }

  text(field: string): string {
    const value = this.#fields[field];
    if (typeof value !== 'string') throw new Error(`${field} is no text: ${this.shown}`);
    return value;
  }

  number(field: string): number {
    const value = this.#fields[field];
    if (typeof value !== 'number') throw new Error(`${field} is no number: ${this.shown}`);
    return value;
  }

  object(field: string): Answer {
    return new Answer(this.#fields[field]);
  }

  get shown(): string {
    return JSON.stringify(this.#fields);
  }
}

/** Where bytes of an answer go: into a digest, and into a sparse file if there is one. */
export interface Received {
  readonly sha256: string;
  readonly bytes: number;
}

interface Call {
  readonly method: string;
  readonly body?: { readonly path: string } | Uint8Array;
  readonly contentType?: string;
}

export class Client {
  readonly #url: string;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(url: string) {
    this.#url = url;
  }

  /** Ends the connections that are kept. */
  close(): void {
    this.#agent.destroy();
  }

  async get(path: string): Promise<Answer> {
    return answerOf(await this.#call(path, { method: 'GET' }));
  }

  async post(path: string, body: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
    const bytes = Buffer.from(JSON.stringify(body));
    const call = { method: 'POST', body: bytes, contentType: 'application/json' };
    return answerOf(await this.#call(path, call));
  }

  /** Sends a file as it is. @returns what was answered; an empty object for 204 */
  async send(method: 'PUT' | 'POST', path: string, file: string): Promise<Answer> {
    return answerOf(await this.#call(path, { method, body: { path: file } }));
  }

  async put(path: string, bytes: Uint8Array): Promise<void> {
    await answerOf(await this.#call(path, { method: 'PUT', body: bytes }));
  }

  /** Reads bytes into a digest, and into `file` with holes where they are zeros. */
  async receive(path: string, file?: string): Promise<Received> {
    const response = await this.#call(path, { method: 'GET' });
    return received(response, file);
  }

  /** POSTs what makes a job and waits until it has ended. @returns the job that succeeded */
  async run(path: string, body: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
    let job = await this.post(path, body);
    while (!['succeeded', 'failed', 'cancelled'].includes(job.text('state'))) {
      const response = await fetch(`${this.#url}/v1/jobs/${job.text('id')}`, {
        headers: { prefer: 'wait=10' },
      });
      job = new Answer(await response.json());
    }
    if (job.text('state') !== 'succeeded') throw new Error(`POST ${path}: ${job.shown}`);
    return job;
  }

  async #call(path: string, call: Call): Promise<IncomingMessage> {
    const { method, body, contentType = 'application/octet-stream' } = call;
    const lengthOf = async (): Promise<number> => {
      if (body === undefined) return 0;
      return 'path' in body ? (await stat(body.path)).size : body.length;
    };
    const answered = Promise.withResolvers<IncomingMessage>();
    const outgoing = request(`${this.#url}/v1${path}`, {
      method,
      agent: this.#agent,
      headers:
        body === undefined
          ? {}
          : { 'content-type': contentType, 'content-length': await lengthOf() },
    });
    outgoing.once('response', answered.resolve).once('error', answered.reject);
    if (body !== undefined && 'path' in body) {
      const source = createReadStream(body.path, { highWaterMark: 1024 * 1024 });
      await Promise.race([pipeline(source, outgoing), answered.promise]);
    } else {
      outgoing.end(body);
    }
    const response = await answered.promise;
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    const problem = Buffer.concat(await response.toArray()).toString();
    throw new Error(`${method} ${path}: ${status} ${problem}`);
  }
}

async function answerOf(response: IncomingMessage): Promise<Answer> {
  const text = Buffer.concat(await response.toArray()).toString();
  const value: unknown = text === '' ? {} : JSON.parse(text);
  return new Answer(value);
}

const zeros = Buffer.alloc(1024 * 1024);

async function received(source: AsyncIterable<Buffer>, path?: string): Promise<Received> {
  const hash = createHash('sha256');
  const file = path === undefined ? undefined : await open(path, 'w');
  let bytes = 0;
  try {
    for await (const chunk of source) {
      hash.update(chunk);
      const isHole = chunk.equals(zeros.subarray(0, chunk.length));
      if (!isHole) await file?.write(chunk, 0, chunk.length, bytes);
      bytes += chunk.length;
    }
    await file?.truncate(bytes);
  } finally {
    await file?.close();
  }
  return { sha256: hash.digest('hex'), bytes };
}

/** The same of a file, or of a part of one. */
export async function digestOf(path: string, from = 0, length?: number): Promise<Received> {
  const end = length === undefined ? Infinity : from + length - 1;
  return received(createReadStream(path, { start: from, end, highWaterMark: 1024 * 1024 }));
}
