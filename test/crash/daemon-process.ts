/**
 * The daemon as a process of its own: started, watched, killed; its log goes to a file and every
 * line of it that tells of an error counts as a broken promise.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Violation } from './violation.ts';

const READY_MS = 60_000;
const STOP_MS = 40_000;
const LOGS_KEPT = 6;
const ERROR_LEVEL = 50;

export interface DaemonOptions {
  /** The data directory is `data` in it, logs are beside. */
  readonly folder: string;
  readonly poolBytes: number;
  /** Script to run; the sources by default. */
  readonly main: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One life of the daemon. */
export class DaemonProcess {
  readonly logFile: string;
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #ready: Promise<string>;
  #url = '';
  #isExpectedToEnd = false;
  #problem: Violation | undefined;

  private constructor(options: DaemonOptions, life: number) {
    const { folder, poolBytes, main } = options;
    this.logFile = join(folder, `daemon-${life}.log`);
    rmSync(join(folder, `daemon-${life - LOGS_KEPT}.log`), { force: true });
    this.#child = spawn(process.execPath, [main], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        SPINDLE_DATA_DIR: join(folder, 'data'),
        SPINDLE_PORT: '0',
        SPINDLE_POOL_BYTES: String(poolBytes),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = createWriteStream(this.logFile);
    this.#child.stderr?.pipe(log);
    this.exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        resolve({ code, signal });
      });
    });
    this.#ready = this.#watch(log);
    this.#ready.catch(() => undefined);
    void this.exited.then(({ code, signal }) => {
      if (!this.#isExpectedToEnd) this.#fail(`it ended by itself: ${code ?? signal ?? '?'}`);
    });
  }

  static #lives = 0;

  /** Starts it; resolves at once. */
  static start(options: DaemonOptions): DaemonProcess {
    DaemonProcess.#lives += 1;
    return new DaemonProcess(options, DaemonProcess.#lives);
  }

  get url(): string {
    return this.#url;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What it has done wrong so far. @throws Violation */
  check(): void {
    if (this.#problem !== undefined) throw this.#problem;
  }

  /** @throws Violation if it does not get ready by itself */
  async ready(): Promise<void> {
    const late = new AbortController();
    const tooLate = sleep(READY_MS, undefined, { signal: late.signal }).then(() => {
      throw new Violation(`not ready after ${READY_MS} ms`, { log: this.logFile });
    });
    try {
      this.#url = await Promise.race([this.#ready, tooLate]);
    } finally {
      late.abort();
      tooLate.catch(() => undefined);
    }
    const answer = await fetch(`${this.#url}/readyz`);
    await answer.arrayBuffer();
    if (answer.status !== 200) throw new Violation(`ready, but /readyz answers ${answer.status}`);
  }

  /** SIGKILL, to this process only. */
  async kill(): Promise<void> {
    this.#isExpectedToEnd = true;
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  /** SIGTERM, without waiting. */
  terminate(): void {
    this.#isExpectedToEnd = true;
    this.#child.kill('SIGTERM');
  }

  /** @returns true if it stopped in good order. @throws Violation if it hangs or fails */
  async stopped(): Promise<void> {
    const end = await Promise.race([this.exited, sleep(STOP_MS, undefined, { ref: false })]);
    if (end === undefined) throw new Violation(`SIGTERM took more than ${STOP_MS} ms`);
    if (end.code !== 0) {
      throw new Violation(`SIGTERM ended with ${end.code ?? end.signal ?? '?'}`, {
        log: this.logFile,
        tail: this.tail(),
      });
    }
  }

  /** The last lines of its log. */
  tail(): string {
    return readFileSync(this.logFile, 'utf8').split('\n').slice(-8).join('\n');
  }

  #fail(message: string): void {
    this.#problem ??= new Violation(`daemon: ${message}`, { log: this.logFile });
  }

  async #watch(log: NodeJS.WritableStream): Promise<string> {
    const { stdout } = this.#child;
    if (stdout === null) throw new Error('no stdout');
    return new Promise((resolve, reject) => {
      createInterface(stdout).on('line', (line) => {
        log.write(`${line}\n`);
        const entry = parsed(line);
        if (entry?.msg === 'ready') resolve(entry.url ?? '');
        if ((entry?.level ?? 0) >= ERROR_LEVEL) this.#fail(line);
      });
      void this.exited.then((end) => {
        reject(
          new Violation(`ended before it was ready: ${end.code ?? end.signal ?? '?'}`, {
            log: this.logFile,
          }),
        );
      });
    });
  }
}

function parsed(line: string): { level?: number; msg?: string; url?: string } | undefined {
  try {
    return JSON.parse(line) as { level?: number; msg?: string; url?: string };
  } catch {
    return undefined;
  }
}
