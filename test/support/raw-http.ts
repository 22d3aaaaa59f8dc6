/**
 * HTTP by hand: bytes into a socket, and whatever comes back. For what no client would send.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import type { AnyJson } from './api-world.ts';

export interface RawAnswer {
  readonly status: number;
  readonly headers: Map<string, string>;
  readonly text: string;
  readonly body: AnyJson;
}

export class RawHttp {
  readonly socket: Socket;
  #received = '';
  #changed: () => void = () => undefined;
  isClosed = false;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text: string) => {
      this.#received += text;
      this.#changed();
    });
    const onClose = (): void => {
      this.isClosed = true;
      this.#changed();
    };
    this.socket.on('end', onClose).on('close', onClose).on('error', onClose);
    onTestFinished(() => {
      this.socket.destroy();
    });
  }

  send(...parts: (string | Buffer)[]): void {
    for (const part of parts) this.socket.write(part);
  }

  /** A request line and headers; `host` is added. */
  head(line: string, headers: Record<string, string | number> = {}): void {
    const all = { host: '127.0.0.1', ...headers };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    this.send(`${line} HTTP/1.1\r\n${lines.join('')}\r\n`);
  }

  /** The next answer, taken from what was received. A body needs Content-Length. */
  async answer(): Promise<RawAnswer> {
    for (;;) {
      const answer = this.#take();
      if (answer !== undefined) return answer;
      if (this.isClosed) throw new Error(`closed after: ${JSON.stringify(this.#received)}`);
      await this.#change();
    }
  }

  /** Resolves when the other side has closed. */
  async closed(): Promise<void> {
    while (!this.isClosed) await this.#change();
  }

  /** What came and was not taken as an answer. */
  get rest(): string {
    return this.#received;
  }

  async #change(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#changed = resolve;
    });
  }

  #take(): RawAnswer | undefined {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const [line = '', ...lines] = this.#received.slice(0, end).split('\r\n');
    const headers = new Map(
      lines.map((one): [string, string] => {
        const at = one.indexOf(':');
        return [one.slice(0, at).toLowerCase(), one.slice(at + 1).trim()];
      }),
    );
    const length = Number(headers.get('content-length') ?? 0);
    if (this.#received.length < end + 4 + length) return undefined;
    const text = this.#received.slice(end + 4, end + 4 + length);
    this.#received = this.#received.slice(end + 4 + length);
    const isJson = (headers.get('content-type') ?? '').includes('json');
    const body = isJson ? JSON.parse(text) : undefined;
    return { status: Number(line.split(' ')[1]), headers, text, body };
  }
}
