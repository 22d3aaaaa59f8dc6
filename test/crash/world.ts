/** Everything of one store: its models, its present life, and what all actors share. */
import { randomUUID } from 'node:crypto';
import type { JobView } from '../../src/api/views.ts';
import { type Answer, type Ask, type Client, Lost } from './client.ts';
import { END, type Write } from './history.ts';
import type {
  BackupModel,
  CopyModel,
  CutPost,
  DiskModel,
  GroupBackupModel,
  GroupModel,
  JobModel,
  Makes,
} from './model.ts';
import { Random } from './random.ts';
import { Violation } from './violation.ts';

/** Refusals that can always come, whatever the models say. */
const busyCodes = new Set([
  'POOL_FULL',
  'DISK_FENCED',
  'DISK_IN_USE',
  'COPY_IN_USE',
  'BACKUP_IN_USE',
  'BACKUP_INCOMPLETE',
  'TOO_MANY_REQUESTS',
  'JOB_STATE',
  'CANCELLED',
]);

const TRACED = 5000;

export interface Limits {
  readonly disks: number;
  readonly copies: number;
  readonly backups: number;
  readonly jobs: number;
  readonly groups: number;
}

export class World {
  readonly random: Random;
  readonly limits: Limits = { disks: 7, copies: 8, backups: 8, jobs: 6, groups: 4 };
  disks: DiskModel[] = [];
  copies: CopyModel[] = [];
  backups: BackupModel[] = [];
  groups: GroupModel[] = [];
  groupBackups: GroupBackupModel[] = [];
  /** Disks that were asked for together since the last start: there are all or none. */
  newTogether: (readonly DiskModel[])[] = [];
  jobs: JobModel[] = [];
  cutPosts: CutPost[] = [];
  pools: string[] = ['default'];
  readonly targets: string[] = [];
  /** What each write was, for the report. */
  readonly writeNames = new Map<number, string>();
  readonly open = new Set<Write>();
  readonly counts = new Map<string, number>();
  /** Ids of all jobs that have ended and were looked at. */
  readonly endedJobs = new Set<string>();
  /** The last events, for the report. */
  readonly traced: string[] = [];
  #client: Client | undefined;
  /** The daemon is being ended: no answer is no wonder. */
  isDying = false;
  /** A deletion of backups with all that is built on them goes on. */
  isCascading = false;
  /** Actors finish what they are at, and stop. */
  isOver = false;
  #time = 0;
  #names = 0;
  #writes = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  get client(): Client {
    if (this.#client === undefined) throw new Error('no daemon');
    return this.#client;
  }

  set client(client: Client) {
    this.#client?.close();
    this.#client = client;
  }

  /** Counts events. */
  tick(): number {
    this.#time += 1;
    return this.#time;
  }

  readonly trace = (line: string): void => {
    this.traced.push(`${this.#time} ${line}`);
    if (this.traced.length > 2 * TRACED) this.traced.splice(0, TRACED);
  };

  name(kind: string): string {
    this.#names += 1;
    return `${kind}${this.#names}`;
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** A write that begins now; nothing is known of it before its answer. */
  beginWrite(
    disk: DiskModel,
    write: Pick<Write, 'from' | 'to' | 'what'> & Partial<Pick<Write, 'content' | 'number'>>,
  ): Write {
    let { number } = write;
    if (number === undefined) {
      this.#writes += 1;
      number = this.#writes;
      this.writeNames.set(number, `${write.what} of ${disk.name}`);
    }
    const begun: Write = {
      ...write,
      number,
      begin: this.tick(),
      end: END,
      durable: END,
      isCertain: false,
      isVoid: false,
    };
    this.trace(`write #${number} of ${disk.ref} [${write.from}, ${write.to}) ${write.what}`);
    disk.writes.push(begun);
    this.open.add(begun);
    return begun;
  }

  endWrite(write: Write, result: 'durable' | 'volatile' | 'void' | 'unsure'): void {
    this.open.delete(write);
    write.end = this.tick();
    write.isCertain = result === 'durable' || result === 'volatile';
    write.isVoid = result === 'void';
    if (result === 'durable') write.durable = write.end;
  }

  /** The daemon has ended: what was under way has happened or never will. */
  died(inGoodOrder: boolean): void {
    const now = this.tick();
    for (const write of this.open) if (write.number >= 0) write.end = now;
    this.open.clear();
    if (this.isCascading) for (const each of this.backups) each.isDeleting = true;
    this.isCascading = false;
    for (const { snapshot } of this.copies) {
      if (!snapshot.byJob) continue;
      snapshot.takenAgain = now;
      snapshot.orBefore = true;
    }
    if (!inGoodOrder) return;
    for (const { writes } of this.disks) {
      for (const write of writes) if (write.isCertain) write.durable = Math.min(write.durable, now);
    }
  }

  /** A POST, keyed at times; one that is cut off is remembered to be sent again. */
  async post(
    path: string,
    json: CutPost['json'],
    settle: CutPost['settle'],
    makes?: Makes,
  ): Promise<void> {
    const key = this.random.chance(0.6) ? randomUUID() : undefined;
    const ask: Ask = {
      ...(json === undefined ? {} : { json }),
      ...(key === undefined ? {} : { key }),
    };
    let answer: Answer;
    try {
      answer = await this.client.ask('POST', path, ask);
    } catch (error) {
      if (key !== undefined && error instanceof Lost) {
        this.cutPosts.push({ path, json, key, settle, makes });
      }
      throw error;
    }
    settle(answer);
  }

  /** A POST that answers with a job. */
  async postJob(
    path: string,
    json: CutPost['json'],
    job: Omit<JobModel, 'id' | 'what'>,
    codes: readonly string[],
    makes?: Makes,
  ): Promise<void> {
    const shown = json === undefined ? '' : JSON.stringify(json);
    const model: JobModel = { ...job, id: undefined, what: `POST ${path} ${shown}` };
    this.jobs.push(model);
    const settle: CutPost['settle'] = (answer) => {
      if (answer.status === 202) {
        model.id = (JSON.parse(answer.body.toString()) as JobView).id;
      } else {
        this.refused(model.what, answer, codes);
        this.endJob(model, undefined);
      }
    };
    await this.post(path, json, settle, makes);
  }

  endJob(model: JobModel, job: JobView | undefined): void {
    if (!this.jobs.includes(model)) return;
    this.jobs = this.jobs.filter((each) => each !== model);
    if (job !== undefined) this.endedJobs.add(job.id);
    model.settle(job);
  }

  /** The code of a refusal. @throws Violation for one that should not be, Lost while dying */
  refused(what: string, answer: Pick<Answer, 'status' | 'body'>, codes: readonly string[]): string {
    const text = answer.body.toString();
    const { code } = JSON.parse(text) as { code: string };
    if (busyCodes.has(code) || codes.includes(code)) {
      this.count(code);
      return code;
    }
    if (this.isDying) throw new Lost(code);
    throw new Violation(`${what} was answered ${answer.status}`, { body: text });
  }

  /** It was never begun. */
  forgetGroupBackup(set: GroupBackupModel): void {
    this.groupBackups = this.groupBackups.filter((each) => each !== set);
    this.backups = this.backups.filter((each) => !set.backups.includes(each));
  }

  usableDisk(random: Random): DiskModel | undefined {
    return random.pick(this.disks.filter((disk) => disk.isUsable));
  }

  usableCopy(random: Random): CopyModel | undefined {
    return random.pick(this.copies.filter((copy) => copy.isUsable));
  }
}
