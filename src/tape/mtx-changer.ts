/**
 * A real medium changer through the program `mtx` and its device, such as /dev/sg1.
 *
 * The program is started with a list of arguments, never by a shell; each is a word of ours, a
 * number, or the device's path. It has a limit of time: a program that hangs in the kernel is left
 * behind, so that who waits for it goes on.
 *
 * Each movement begins with an inventory, which tells what cannot be done: the program's own words
 * are for people, only its sense data is looked at.
 */
import { spawn } from 'node:child_process';
import { errnoOf } from '../base/errors.ts';
import { ChangerError, moveRefusal } from './changer.ts';
import type { Changer, ChangerInventory, ChangerMove } from './changer.ts';
import { parseMtxStatus, printable } from './mtx-status.ts';

export interface MtxOptions {
  /** Default `mtx`, looked for in the folders of the system. */
  readonly program?: string;
  /** Of an inventory. Default one minute. */
  readonly statusMs?: number;
  /** Of a movement. Default five minutes: large libraries, and drives that rewind first. */
  readonly moveMs?: number;
}

interface MtxResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const MINUTE_MS = 60_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
/** Nothing of our own environment, which may hold secrets, is the program's business. */
const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

export class MtxChanger implements Changer {
  readonly path: string;
  readonly #o: Required<MtxOptions>;

  /** @param path of the device, absolute */
  constructor(path: string, options: MtxOptions = {}) {
    const defaults = { program: 'mtx', statusMs: MINUTE_MS, moveMs: 5 * MINUTE_MS };
    this.#o = { ...defaults, ...options };
    this.path = path;
  }

  async inventory(): Promise<ChangerInventory> {
    const { stdout } = await this.#run(['status'], this.#o.statusMs);
    return parseMtxStatus(stdout);
  }

  async load(slot: number, drive: number): Promise<void> {
    const move = { from: placeOf('slot', slot), to: placeOf('drive', drive) };
    await this.#move(move, ['load', String(slot), String(drive)]);
  }

  async unload(drive: number, slot: number): Promise<void> {
    const move = { from: placeOf('drive', drive), to: placeOf('slot', slot) };
    await this.#move(move, ['unload', String(slot), String(drive)]);
  }

  async transfer(from: number, to: number): Promise<void> {
    const move = { from: placeOf('slot', from), to: placeOf('slot', to) };
    await this.#move(move, ['transfer', String(from), String(to)]);
  }

  async #move(move: ChangerMove, args: readonly string[]): Promise<void> {
    const refusal = moveRefusal(await this.inventory(), move);
    if (refusal !== undefined) throw refusal;
    await this.#run(args, this.#o.moveMs);
  }

  async #run(args: readonly string[], limitMs: number): Promise<MtxResult> {
    const words = ['-f', this.path, ...args];
    const result = await runLimited(this.#o.program, words, limitMs);
    if (result.status === 0) return result;
    throw failureOf(args[0] ?? '', result);
  }
}

function placeOf(kind: 'slot' | 'drive', number: number) {
  return { kind, number };
}

function failureOf(command: string, { status, stderr }: MtxResult): ChangerError {
  const said = `mtx ${command} ended with ${status}: ${printable(lastLines(stderr))}`;
  // Becoming ready (ASC 04), or at work for another: sense data, as the program prints it.
  const isBusy = /Additional Sense Code = 04\b/i.test(stderr) || /device.*busy/i.test(stderr);
  if (isBusy) return new ChangerError('busy', said);
  const isAway = /cannot open SCSI device|is not an sg device|INQUIRY Command Failed/.test(stderr);
  // A drive, or a disk, does not know what to do with an element status.
  const isOther = command === 'status' && /Additional Sense Code = 20\b/.test(stderr);
  if (isAway || isOther) return new ChangerError('unreachable', said);
  return new ChangerError('failed', said);
}

/** The program prints its sense data first, a line a field, and says in the end what it means. */
function lastLines(stderr: string): string {
  return stderr.trim().split('\n').slice(-3).join('; ');
}

/** @throws ChangerError `unreachable`: it is not installed; `failed`: the time is over */
async function runLimited(
  program: string,
  args: readonly string[],
  limitMs: number,
): Promise<MtxResult> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('latin1');
    child[name].on('data', (text: string) => {
      if (said[name].length < MAX_OUTPUT_BYTES) said[name] += text;
    });
  }
  const { promise, resolve, reject } = Promise.withResolvers<MtxResult>();
  const timer = setTimeout(() => {
    child.kill('SIGKILL');
    // It may sleep in the kernel and not end at all.
    child.unref();
    child.stdout.destroy();
    child.stderr.destroy();
    const seconds = Math.round(limitMs / 1000);
    const message = `mtx ${args[2] ?? ''} did not end within ${seconds} s`;
    reject(new ChangerError('failed', message));
  }, limitMs);
  child.once('error', (error) => {
    const message =
      errnoOf(error) === 'ENOENT' ? 'mtx is not installed' : `mtx does not start: ${error.message}`;
    reject(new ChangerError('unreachable', message));
  });
  child.once('close', (status) => {
    resolve({ status: status ?? -1, ...said });
  });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}
