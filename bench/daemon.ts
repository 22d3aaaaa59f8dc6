/**
 * A daemon for a bench: started as `npm start` does, in a temporary folder, spoken to over HTTP.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The body of an answer; an empty object if there is none. */
export type Answer = Readonly<Record<string, unknown>>;

/** Of Linux, wherever Node runs. */
const TICKS_PER_SECOND = 100;

export interface BenchDaemon {
  readonly dir: string;
  readonly url: string;
  /** JSON call; throws on a status of 400 and above. */
  call(method: string, path: string, body?: unknown): Promise<Answer>;
  /** Waits for a job's end; throws unless it succeeded. */
  ended(job: Answer): Promise<Answer>;
  /** Processor time that it has used, in seconds. */
  cpuSeconds(): Promise<number>;
  /** Peak resident memory in MiB since the last call. */
  peakMiB(): Promise<number>;
  stop(): Promise<void>;
}

export async function startDaemon(
  settings: Readonly<Record<string, string>> = {},
  folder?: string,
): Promise<BenchDaemon> {
  const dir =
    folder ?? (await mkdtemp(join(process.env['BENCH_DIR'] ?? tmpdir(), 'spindle-bench-')));
  const port = String(20000 + (process.pid % 20000));
  const child = spawn('npm', ['start', '--silent'], {
    env: { ...process.env, SPINDLE_DATA_DIR: dir, SPINDLE_PORT: port, ...settings },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const url = `http://127.0.0.1:${port}`;
  for (let attempt = 0; ; attempt += 1) {
    const ready = await fetch(`${url}/readyz`).catch(() => undefined);
    if (ready?.ok === true) break;
    if (attempt > 600 || child.exitCode !== null) throw new Error('the daemon does not start');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const pid = await pidOf(child.pid ?? 0);

  async function call(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`${url}/v1${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${text}`);
    return text === '' ? {} : parse(text);
  }

  return {
    dir,
    url,
    call,
    async ended(job) {
      for (;;) {
        const response = await fetch(`${url}/v1/jobs/${String(job['id'])}`, {
          headers: { prefer: 'wait=30' },
        });
        const now = parse(await response.text());
        if (now['state'] === 'succeeded') return now;
        if (now['endedAt'] !== null && now['endedAt'] !== undefined) {
          throw new Error(JSON.stringify(now));
        }
      }
    },
    async cpuSeconds() {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
    },
    async peakMiB() {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const peak = /VmHWM:\s+(\d+) kB/.exec(status)?.[1];
      return Math.round(Number(peak) / 1024);
    },
    async stop() {
      child.kill('SIGTERM');
      await new Promise((resolve) => child.once('exit', resolve));
      if (folder === undefined) await rm(dir, { recursive: true, force: true });
    },
  };
}

/** `npm start` is the parent of the process that serves, or has become it. */
async function pidOf(npm: number): Promise<number> {
  const children = await readFile(`/proc/${npm}/task/${npm}/children`, 'utf8').catch(() => '');
  const first = Number(children.trim().split(' ')[0]);
  return first > 0 ? pidOf(first) : npm;
}

function parse(text: string): Answer {
  const value: unknown = JSON.parse(text);
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

/** Prints one figure as a JSON line. */
export function print(figure: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(figure)}\n`);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}
