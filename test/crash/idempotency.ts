/**
 * POSTs with an Idempotency-Key, cut off by SIGKILL at a random moment and repeated: each has made
 * exactly one object, the one that any first answer named, and every answer is the same bytes.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobView } from '../../src/api/views.ts';
import { type Answer, Client, type Json, jsonOf } from './client.ts';
import { DaemonProcess } from './daemon-process.ts';
import { patternBytes } from './pattern.ts';
import { Random } from './random.ts';
import { Violation } from './violation.ts';

const MIB = 1024 * 1024;
const KILL_WITHIN_MS = 70;
const SPREAD_MS = 40;

interface Options {
  readonly rounds: number;
  readonly seed: number;
  readonly main: string;
}

/** One POST of a round. */
interface Post {
  readonly kind: string;
  readonly path: string;
  readonly json: Json;
  readonly key: string;
  /** Where what it makes is listed, and how it is recognised there. */
  readonly list: string;
  readonly isIt: (item: Json) => boolean;
  /** Takes away what it made. */
  readonly remove: string | undefined;
  first?: Answer;
}

/** @returns whether all went well */
export async function runIdempotency(options: Options): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'spindle-crash-'));
  const run = new Run(folder, options);
  try {
    await run.run();
  } catch (error) {
    await run.close();
    console.error(error instanceof Error ? error.stack : error);
    console.error(`seed ${options.seed}, folder ${folder}`);
    return false;
  }
  await run.close();
  rmSync(folder, { recursive: true, force: true });
  return true;
}

class Run {
  readonly #options: Options;
  readonly #folder: string;
  readonly #random: Random;
  #daemon: DaemonProcess | undefined;
  #client: Client | undefined;
  #isDying = false;
  #names = 0;
  #cut = 0;
  #made = 0;
  #posts = 0;

  constructor(folder: string, options: Options) {
    this.#folder = folder;
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  async run(): Promise<void> {
    await this.#start();
    await this.#prepare();
    for (let round = 1; round <= this.#options.rounds; round += 1) {
      const posts = this.#choose();
      const killedAfterMs = await this.#cutOff(posts);
      await this.#start();
      let made = 0;
      for (const post of posts) made += await this.#repeat(post);
      for (const post of posts) await this.#clean(post);
      const cut = posts.filter(({ first }) => first === undefined).length;
      this.#posts += posts.length;
      this.#cut += cut;
      this.#made += made;
      console.log(
        `round ${round}: SIGKILL after ${killedAfterMs} ms, ${posts.length} POSTs, ` +
          `${cut} without an answer, ${made} of these had taken effect`,
      );
    }
    const { ok } = await this.#json('GET', '/check');
    if (ok !== true) throw new Violation('the check found something');
    console.log(
      `${this.#posts} POSTs, ${this.#cut} cut off by the kill (${this.#made} of them after their ` +
        'effect, the others before): exactly one object each',
    );
  }

  async close(): Promise<void> {
    await this.#daemon?.kill();
  }

  async #start(): Promise<void> {
    const { main } = this.#options;
    const daemon = DaemonProcess.start({ folder: this.#folder, poolBytes: 256 * MIB, main });
    this.#daemon = daemon;
    await daemon.ready();
    this.#isDying = false;
    this.#client?.close();
    this.#client = new Client(
      daemon.url,
      () => this.#isDying,
      () => undefined,
    );
  }

  async #ask(method: string, path: string, ask: Parameters<Client['ask']>[2]): Promise<Answer> {
    if (this.#client === undefined) throw new Error('no daemon');
    return this.#client.ask(method, path, ask);
  }

  async #json(method: string, path: string, json?: Json): Promise<Json> {
    const answer = await this.#ask(method, path, json === undefined ? {} : { json });
    if (answer.status < 300) return answer.body.length === 0 ? {} : jsonOf(answer);
    throw new Violation(`${method} ${path} answered ${answer.status}`, {
      body: answer.body.toString(),
    });
  }

  /** A disk with data, a copy of it, a target and a backup. */
  async #prepare(): Promise<void> {
    await this.#json('POST', '/disks', { name: 'origin', capacityBytes: 64 * MIB });
    await this.#ask('PUT', '/disks/origin/data', { body: patternBytes(1, 0, 3 * MIB) });
    await this.#json('POST', '/disks/origin/copies', { name: 'monday' });
    await this.#json('POST', '/disks', { name: 'working', capacityBytes: 64 * MIB });
    await this.#json('POST', '/targets', { name: 'shelf', kind: 'directory', path: 'shelf' });
    const json = { name: 'b0', copy: 'monday', target: 'shelf' };
    await this.#ended(await this.#json('POST', '/backups', json));
  }

  #choose(): Post[] {
    const made: Post[] = [];
    const add = (
      kind: string,
      list: string,
      remove: string | undefined,
      make: (name: string) => { path: string; json: Json; isIt?: Post['isIt'] },
    ): void => {
      this.#names += 1;
      const name = `${kind}${this.#names}`;
      const isIt = (item: Json): boolean => item.name === name;
      const gone = remove === undefined ? undefined : `${remove}/${name}`;
      made.push({ kind, list, key: randomUUID(), isIt, remove: gone, ...make(name) });
    };
    add('disk', '/disks', '/disks', (name) => ({
      path: '/disks',
      json: { name, capacityBytes: 10 * MIB },
    }));
    add('copy', '/copies', '/copies', (name) => ({ path: '/disks/origin/copies', json: { name } }));
    add('target', '/targets', '/targets', (name) => ({
      path: '/targets',
      json: { name, kind: 'directory', path: name },
    }));
    add('pool', '/pools', '/pools', (name) => ({
      path: '/pools',
      json: { name, files: [{ path: `${name}.pool`, sizeBytes: 8 * MIB }] },
    }));
    add('write-back', '/jobs?kind=restore', undefined, () => {
      const labelled = this.#random.int(1, 2 ** 40);
      return {
        path: '/copies/monday/restores',
        json: { method: 'write-back', disk: 'working', maxBytesPerSecond: labelled },
        isIt: (job) => job.maxBytesPerSecond === labelled,
      };
    });
    add('backup', '/backups', '/backups', (name) => ({
      path: '/backups',
      json: { name, copy: 'monday', target: 'shelf' },
    }));
    add('remap', '/disks', '/disks', (name) => ({
      path: '/copies/monday/restores',
      json: { method: 'remap', disk: name },
    }));
    add('restore', '/jobs?kind=restore', '/disks', (name) => ({
      path: '/backups/b0/restores',
      json: { method: 'remap', disk: name },
      isIt: (job) => (job as unknown as JobView).subject.disk === name,
    }));
    return made;
  }

  /** Sends all of them and kills the daemon meanwhile. @returns after how long */
  async #cutOff(posts: readonly Post[]): Promise<number> {
    const afterMs = this.#random.int(0, KILL_WITHIN_MS);
    const sent = posts.map(async (post) => {
      await sleep(this.#random.int(0, SPREAD_MS));
      const { path, json, key } = post;
      if (!this.#isDying) post.first = await this.#ask('POST', path, { json, key });
    });
    const all = Promise.allSettled(sent);
    await sleep(afterMs);
    this.#isDying = true;
    await this.#daemon?.kill();
    for (const result of await all) {
      if (result.status === 'rejected' && result.reason instanceof Violation) throw result.reason;
    }
    for (const { kind, first } of posts) {
      if (first === undefined || first.status < 300) continue;
      throw new Violation(`${kind} was refused`, { body: first.body.toString() });
    }
    return afterMs;
  }

  /** @returns 1 if it had taken effect without an answer */
  async #repeat(post: Post): Promise<number> {
    const { kind, path, json, key, first } = post;
    const before = await this.#find(post);
    const second = await this.#ask('POST', path, { json, key });
    const after = await this.#find(post);
    const third = await this.#ask('POST', path, { json, key });
    const bodies = [first, second, third].filter((answer) => answer !== undefined);
    const facts = { before, after, answers: bodies.map(({ body }) => body.toString()) };
    if (second.status >= 300) throw new Violation(`${kind}: the repeat was refused`, facts);
    if (new Set(facts.answers).size > 1) throw new Violation(`${kind}: answers differ`, facts);
    if (new Set(bodies.map(({ status }) => status)).size > 1) {
      throw new Violation(`${kind}: states differ`, facts);
    }
    if (third.headers['idempotency-replayed'] !== 'true') {
      throw new Violation(`${kind}: the third answer is no replay`, facts);
    }
    if (first !== undefined && before.length !== 1) {
      throw new Violation(`${kind}: what was answered is not there`, facts);
    }
    const [id] = after;
    if (after.length !== 1 || (before.length > 0 && before[0] !== id)) {
      throw new Violation(`${kind}: not exactly one object`, facts);
    }
    // a backup's answer is its job
    if (kind !== 'backup' && jsonOf(second).id !== id) {
      throw new Violation(`${kind}: the answer names another object`, facts);
    }
    return first === undefined && before.length > 0 ? 1 : 0;
  }

  /** Ids of what the POST has made. */
  async #find({ list, isIt }: Post): Promise<string[]> {
    const { items } = await this.#json('GET', list);
    return (items as Json[]).filter(isIt).map(({ id }) => String(id));
  }

  async #clean({ kind, path, json, key, remove }: Post): Promise<void> {
    if (kind === 'backup' || kind === 'restore' || kind === 'write-back') {
      await this.#ended(jsonOf(await this.#ask('POST', path, { json, key })));
    }
    const place = kind === 'restore' ? `/disks/${String(json.disk)}` : remove;
    if (kind === 'remap') await this.#json('DELETE', `/disks/${String(json.disk)}`);
    else if (place !== undefined) await this.#json('DELETE', place);
  }

  async #ended(job: Json): Promise<void> {
    const headers = { prefer: 'wait=30' };
    const answer = jsonOf(await this.#ask('GET', `/jobs/${String(job.id)}`, { headers }));
    if (answer.state !== 'succeeded') throw new Violation('a job failed', { job: answer });
  }
}
