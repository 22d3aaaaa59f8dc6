/** Requests to one life of the daemon; an answer, or the certainty that there is none. */
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { Violation } from './violation.ts';

const IDLE_MS = 90_000;

/** There is no answer: the daemon was killed, or the client cut the request itself. */
export class Lost extends Error {}

export interface Ask {
  readonly json?: unknown;
  readonly body?: Buffer;
  /** Sent piece by piece, without Content-Length unless `length` is given. */
  readonly pieces?: Iterable<Buffer>;
  readonly length?: number;
  /** Breaks the connection after so many bytes of the pieces. */
  readonly cutAfter?: number;
  /** True if a request by force may end this one, which has no other way to say so. */
  readonly mayEnd?: () => boolean;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** JSON as it comes; what is used of it is checked where it is used. */
export type Json = Readonly<Record<string, unknown>>;

export function jsonOf(answer: Answer): Json {
  return JSON.parse(answer.body.toString()) as Json;
}

export class Client {
  readonly #url: URL;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });
  readonly #isDying: () => boolean;
  readonly #trace: (line: string) => void;
  #asked = 0;
  #pending = 0;

  /** @param isDying answers may be missing, since the daemon is being ended */
  constructor(url: string, isDying: () => boolean, trace: (line: string) => void) {
    this.#url = new URL(url);
    this.#isDying = isDying;
    this.#trace = trace;
  }

  get asked(): number {
    return this.#asked;
  }

  get pending(): number {
    return this.#pending;
  }

  close(): void {
    this.#agent.destroy();
  }

  /** @throws Lost; Violation if a connection ends without reason, or INTERNAL is answered */
  async ask(method: string, path: string, ask: Ask = {}): Promise<Answer> {
    this.#asked += 1;
    this.#pending += 1;
    const number = this.#asked;
    const json = ask.json === undefined ? '' : JSON.stringify(ask.json);
    this.#trace(`> ${number} ${method} ${path} ${json}`);
    try {
      const answer = await this.#ask(method, path, ask);
      const shown = answer.status < 400 && method === 'GET' ? '' : answer.body.toString();
      this.#trace(`< ${number} ${answer.status} ${shown}`);
      if (answer.status === 500 || answer.status === 503) this.#checkServerError(path, answer);
      return answer;
    } catch (error) {
      if (error instanceof Violation || error instanceof Lost) throw error;
      this.#trace(`< ${number} ${String(error)}`);
      const isExpected = ask.cutAfter !== undefined || ask.mayEnd?.() === true;
      if (this.#isDying() || isExpected) throw new Lost(String(error));
      throw new Violation(`${method} ${path} got no answer`, { error: String(error) });
    } finally {
      this.#pending -= 1;
    }
  }

  /** The JSON of an answer with one of these states. @throws Violation for another */
  async json(method: string, path: string, ask: Ask = {}): Promise<Json> {
    const answer = await this.ask(method, path, ask);
    if (answer.status < 300) return jsonOf(answer);
    if (this.#isDying()) throw new Lost(`${answer.status}`);
    throw new Violation(`${method} ${path} answered ${answer.status}`, {
      body: answer.body.toString(),
    });
  }

  /** All items of a list. */
  async list(path: string): Promise<Json[]> {
    const items: Json[] = [];
    let token: string | null = null;
    do {
      const mark = path.includes('?') ? '&' : '?';
      const next: string = token === null ? '' : `${mark}pageToken=${encodeURIComponent(token)}`;
      const page = await this.json('GET', `${path}${next}`);
      items.push(...(page.items as Json[]));
      token = page.nextPageToken as string | null;
    } while (token !== null);
    return items;
  }

  #checkServerError(path: string, { status, body }: Answer): void {
    if (this.#isDying() && status === 503) throw new Lost('503');
    throw new Violation(`${path} answered ${status}`, { body: body.toString() });
  }

  async #ask(method: string, path: string, ask: Ask): Promise<Answer> {
    const body = ask.json === undefined ? ask.body : Buffer.from(JSON.stringify(ask.json));
    const length = ask.length ?? body?.length;
    const sent = request(new URL(`/v1${path}`, this.#url), {
      method,
      agent: this.#agent,
      headers: {
        ...(ask.json === undefined ? {} : { 'content-type': 'application/json' }),
        ...(length === undefined ? {} : { 'content-length': String(length) }),
        ...(ask.key === undefined ? {} : { 'idempotency-key': ask.key }),
        ...ask.headers,
      },
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve).on('error', reject);
    });
    answered.catch(() => undefined);
    sent.setTimeout(IDLE_MS, () => sent.destroy(new Error(`silent for ${IDLE_MS} ms`)));
    if (ask.pieces === undefined) sent.end(body);
    else void sendPieces(sent, ask.pieces, ask.cutAfter);
    const response = await answered;
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    if (!response.complete) throw new Error('the answer was cut');
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      body: Buffer.concat(chunks),
    };
  }
}

async function sendPieces(
  sent: ReturnType<typeof request>,
  pieces: Iterable<Buffer>,
  cutAfter = Infinity,
): Promise<void> {
  let left = cutAfter;
  try {
    for (const piece of pieces) {
      if (left <= 0) break;
      const hasRoom = sent.write(piece.subarray(0, left));
      left -= piece.length;
      if (!hasRoom && !sent.destroyed) await drained(sent);
      if (sent.destroyed) return;
    }
    if (left <= 0) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      sent.destroy(new Error('cut by the client'));
    } else sent.end();
  } catch {
    sent.destroy();
  }
}

/** Resolves when more can be sent, or nothing more can. */
async function drained(sent: ReturnType<typeof request>): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      sent.off('drain', done).off('close', done);
      resolve();
    };
    sent.once('drain', done).once('close', done);
  });
}
