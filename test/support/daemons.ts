/**
 * Daemons to test: one in this process (quick to start), or one in a process of its own (to be
 * killed, or asked for its exit code). Each listens on a free port and does not outlive its test.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Daemon } from '../../src/daemon.ts';
import { builtMain } from './built.ts';

/** Variables of the environment. */
export type Settings = Readonly<Record<string, string>>;

/** Asks a daemon. */
export class Client {
  url = '';

  async fetch(path: string, init?: RequestInit): Promise<Response> {
    return fetch(`${this.url}/v1${path}`, init);
  }

  async get(path: string): Promise<Record<string, unknown>> {
    const answer = await this.fetch(path);
    return (await answer.json()) as Record<string, unknown>;
  }

  async post(path: string, body: unknown): Promise<Response> {
    return this.#json('POST', path, body);
  }

  async patch(path: string, body: unknown): Promise<Response> {
    return this.#json('PATCH', path, body);
  }

  async put(path: string, body: Uint8Array<ArrayBuffer>): Promise<Response> {
    return this.fetch(path, { method: 'PUT', body });
  }

  async bytes(path: string): Promise<Buffer> {
    return Buffer.from(await (await this.fetch(path)).arrayBuffer());
  }

  async #json(method: string, path: string, body: unknown): Promise<Response> {
    const headers = { 'content-type': 'application/json' };
    return this.fetch(path, { method, headers, body: JSON.stringify(body) });
  }
}

/** A daemon in this process. */
export class LocalDaemon extends Client {
  readonly daemon: Daemon;
  /** Lines of its log. */
  readonly log: Record<string, unknown>[] = [];

  constructor(settings: Settings) {
    super();
    const config = loadConfig([], { SPINDLE_PORT: '0', ...settings });
    const write = (line: string): void => {
      this.log.push(JSON.parse(line) as Record<string, unknown>);
    };
    const onFatal = (error: unknown): void => {
      this.log.push({ msg: 'fatal', err: String(error) });
    };
    this.daemon = new Daemon({ config, log: pino({ level: 'warn' }, { write }), onFatal });
    onTestFinished(async () => {
      await this.daemon.stop();
    });
  }

  /** Started and ready. @throws as Daemon.start */
  static async ready(settings: Settings): Promise<LocalDaemon> {
    const local = new LocalDaemon(settings);
    await local.daemon.start();
    local.url = local.daemon.url;
    return local;
  }

  async stop(): Promise<boolean> {
    return this.daemon.stop();
  }
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What it said on stderr. */
  readonly said: string;
}

/** A daemon in a process of its own. */
export class DaemonProcess extends Client {
  readonly #child: ChildProcess;
  readonly #said: Buffer[] = [];
  readonly #log: Record<string, unknown>[] = [];
  /** Resolves when the process has ended. */
  readonly ended: Promise<Ended>;

  constructor(settings: Settings) {
    super();
    const { PATH = '', NODE_COMPILE_CACHE = '' } = process.env;
    const env = { PATH, NODE_COMPILE_CACHE, SPINDLE_PORT: '0', ...settings };
    this.#child = spawn(process.execPath, [builtMain], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stderr?.on('data', (chunk: Buffer) => this.#said.push(chunk));
    this.ended = once(this.#child, 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
      said: Buffer.concat(this.#said).toString(),
    }));
    const lines = createInterface({ input: this.#child.stdout! });
    lines.on('line', (line) => this.#log.push(JSON.parse(line) as Record<string, unknown>));
    onTestFinished(async () => {
      await this.end('SIGKILL');
    });
  }

  /** Started and ready. @throws if it ends before */
  static async ready(settings: Settings): Promise<DaemonProcess> {
    const daemon = new DaemonProcess(settings);
    daemon.url = String((await daemon.logged('ready'))['url']);
    return daemon;
  }

  /** The line of the log with this message, when it has come. @throws if the process ends before */
  async logged(message: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.#log.find(({ msg }) => msg === message);
      if (found !== undefined) return found;
      const ended = await Promise.race([this.ended, delay()]);
      if (ended !== undefined) throw new Error(`ended with ${ended.code ?? ''}: ${ended.said}`);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Sends the signal and waits for the end. */
  async end(signal: NodeJS.Signals): Promise<Ended> {
    this.signal(signal);
    return this.ended;
  }
}

function delay(): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(() => {
      resolve(undefined);
    }, 10);
  });
}
