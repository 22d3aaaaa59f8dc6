/**
 * A daemon started by `npm start`, as a stranger starts it, in a directory of the test's own.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { temporaryDirectory } from '../support/temporary.ts';

export const root = join(import.meta.dirname, '..', '..');

/** Bodies come as they come. */
export type AnyJson = ReturnType<typeof JSON.parse>;

export class Served {
  /** For the test's files; the data directory is `data` in it. */
  readonly directory: string;
  readonly #settings: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  #url = '';

  private constructor(directory: string, settings: Readonly<Record<string, string>>) {
    this.directory = directory;
    this.#settings = settings;
    onTestFinished(() => this.stop());
  }

  /** Started and ready; stopped when the test has ended. @param settings SPINDLE_… variables */
  static async start(settings: Readonly<Record<string, string>> = {}): Promise<Served> {
    const served = new Served(await temporaryDirectory(), settings);
    await served.start();
    return served;
  }

  /** With `/v1`. */
  get url(): string {
    return `${this.#url}/v1`;
  }

  get dataDir(): string {
    return join(this.directory, 'data');
  }

  /** Where a directory target of this path puts a backup. */
  backupFolder(target: string, backup: string): string {
    return join(this.dataDir, target, backup);
  }

  /** `npm start`; resolves when it says that it is ready. */
  async start(): Promise<void> {
    await mkdir(this.dataDir, { recursive: true });
    const child = spawn('npm', ['start'], {
      cwd: root,
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        SPINDLE_DATA_DIR: this.dataDir,
        SPINDLE_PORT: '0',
        SPINDLE_POOL_BYTES: '1GiB',
        ...this.#settings,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    const said: string[] = [];
    const ready = Promise.withResolvers<string>();
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream).on('line', (line) => {
        said.push(line);
        const url = /"url":"([^"]+)".*"msg":"ready"/.exec(line)?.[1];
        if (url !== undefined) ready.resolve(url);
      });
    }
    child.once('exit', () => {
      ready.reject(new Error(`npm start has ended:\n${said.join('\n')}`));
    });
    this.#url = await ready.promise;
  }

  /** Ends it as a terminal or a service manager does: npm is told, and tells the daemon. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** JSON of an answer that must be good. */
  async get(path: string): Promise<AnyJson> {
    return this.#json(path);
  }

  async post(path: string, body: unknown = {}): Promise<AnyJson> {
    return this.#json(path, { method: 'POST', ...jsonBody(body) });
  }

  async patch(path: string, body: unknown): Promise<AnyJson> {
    return this.#json(path, { method: 'PATCH', ...jsonBody(body) });
  }

  async delete(path: string): Promise<void> {
    await this.#json(path, { method: 'DELETE' });
  }

  async put(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#json(path, { method: 'PUT', body: bytes });
  }

  async bytes(path: string): Promise<Buffer> {
    const answer = await fetch(`${this.url}${path}`);
    if (!answer.ok) throw new Error(`GET ${path}: ${answer.status} ${await answer.text()}`);
    return Buffer.from(await answer.arrayBuffer());
  }

  /** The job when it has ended well. */
  async succeeded(id: string): Promise<AnyJson> {
    for (;;) {
      const job = await this.#json(`/jobs/${id}`, { headers: { prefer: 'wait=30' } });
      if (job.state === 'succeeded') return job;
      if (job.state === 'failed' || job.state === 'cancelled') {
        throw new Error(`job ${job.state}: ${JSON.stringify(job)}`);
      }
    }
  }

  async #json(path: string, init: RequestInit = {}): Promise<AnyJson> {
    const answer = await fetch(`${this.url}${path}`, init);
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${answer.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }
}

function jsonBody(body: unknown): RequestInit {
  return { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}
