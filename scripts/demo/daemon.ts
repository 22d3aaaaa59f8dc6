/**
 * The daemon of the demo: a process of its own over a data directory of its own, on a free port.
 *
 * It is started by the very command of `npm start`, so it is built first if that is needed. Its
 * log is kept to the last lines, for the case that something goes wrong.
 */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import packageJson from '../../package.json' with { type: 'json' };

const root = join(import.meta.dirname, '..', '..');
const KEPT_LINES = 30;

export class DemoDaemon {
  readonly #process: ChildProcessByStdio<null, Readable, Readable>;
  readonly #exited: Promise<unknown>;
  readonly #lines: string[] = [];
  readonly url: Promise<string>;

  constructor(settings: { readonly dataDir: string; readonly poolBytes: number }) {
    // the command ends in `exec`: this process becomes the daemon
    this.#process = spawn('/bin/sh', ['-c', packageJson.scripts.start], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...ownEnvironment(), ...variablesOf(settings) },
    });
    this.#exited = once(this.#process, 'exit');
    this.url = this.#ready();
  }

  /** What went on in it last, for a person. */
  get log(): string {
    return this.#lines.join('\n');
  }

  /** The most memory that it ever had, in bytes. 0 where the system does not tell. */
  get peakBytes(): number {
    try {
      const status = readFileSync(`/proc/${this.#process.pid ?? 'none'}/status`, 'utf8');
      return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
    } catch {
      return 0;
    }
  }

  /** Stops it in good order. Idempotent. @returns whether it was in good order */
  async stop(): Promise<boolean> {
    this.#process.kill('SIGTERM');
    await this.#exited;
    return this.#process.exitCode === 0;
  }

  async #ready(): Promise<string> {
    createInterface(this.#process.stderr).on('line', (line) => {
      this.#keep(line);
    });
    const started = Promise.withResolvers<string>();
    createInterface(this.#process.stdout).on('line', (line) => {
      this.#keep(line);
      const found = /"url":"([^"]+)".*"msg":"ready"/.exec(line)?.[1];
      if (found !== undefined) started.resolve(found);
    });
    void this.#exited.then(() => {
      started.reject(new Error(`the daemon has ended:\n${this.log}`));
    });
    return started.promise;
  }

  #keep(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
  }
}

/** The environment as npm makes it, without settings of a daemon that somebody else meant. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('SPINDLE_'));
  const { PATH = '', ...others } = Object.fromEntries(entries);
  return { ...others, PATH: `${join(root, 'node_modules', '.bin')}:${PATH}` };
}

function variablesOf(settings: { dataDir: string; poolBytes: number }): Record<string, string> {
  return {
    SPINDLE_DATA_DIR: settings.dataDir,
    SPINDLE_POOL_BYTES: String(settings.poolBytes),
    SPINDLE_PORT: '0',
  };
}
