/**
 * Schedules over the real engine and real jobs; the wall clock is in the hands of the test.
 */
import type { Job } from '../../src/job/job.ts';
import type { ScheduleRecord } from '../../src/schedule/records.ts';
import { Schedules } from '../../src/schedule/schedules.ts';
import { ManualTime } from './manual-time.ts';
import { openWork, type WorkBench } from './work.ts';

export class ScheduleBench {
  readonly time: ManualTime;
  readonly bench: WorkBench;
  readonly schedules: Schedules;
  readonly errors: unknown[];

  private constructor(parts: Pick<ScheduleBench, 'time' | 'bench' | 'schedules' | 'errors'>) {
    this.time = parts.time;
    this.bench = parts.bench;
    this.schedules = parts.schedules;
    this.errors = parts.errors;
  }

  /** Opens what the folder holds, at this moment of the wall clock. */
  static async open(dir: string, now: string): Promise<ScheduleBench> {
    const time = new ManualTime(Date.parse(now));
    const errors: unknown[] = [];
    const made: Schedules[] = [];
    const bench = await openWork(dir, {
      beside: ({ meta, work, runner }) => {
        const schedules = new Schedules({
          store: meta,
          clock: time,
          sleep: time.sleep,
          backups: work.backups,
          runner,
          onError: (error) => errors.push(error),
        });
        made.push(schedules);
        return {
          kinds: { schedule: schedules.kind },
          onJobEnd: (job) => {
            schedules.onJobEnd(job);
          },
          open: () => schedules.open(),
          settle: () => schedules.settle(),
        };
      },
    });
    return new ScheduleBench({ time, bench, errors, schedules: made[0]! });
  }

  get runner(): WorkBench['runner'] {
    return this.bench.runner;
  }

  start(): void {
    this.schedules.start();
  }

  /** Sets the wall clock forward and lets happen what follows, jobs included. */
  async at(moment: string): Promise<void> {
    await this.time.advance(Date.parse(moment) - this.time.nowMs());
    await this.idle();
  }

  /** Until no job is under way and the schedules sleep. */
  async idle(): Promise<void> {
    for (let quiet = 0; quiet < 5; quiet += 1) {
      const isUnderWay = this.schedules
        .list()
        .some(({ progress: { lastRun, queuedMs } }) => lastRun?.state === 'running' || queuedMs);
      const isBusy = this.runner.liveJobs().length > 0 || this.time.sleeping === 0;
      if (isUnderWay || isBusy) quiet = 0;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Runs so far: their instants, oldest first. */
  async runs(): Promise<string[]> {
    const { items } = await this.runner.list({ kind: 'schedule' });
    return items.toReversed().map((job) => instantOf(job));
  }

  /** Names of the backups, sorted: those of one moment have no order. */
  backups(): string[] {
    const names = this.bench.work.backups.list().map(({ name }) => name);
    return names.sort();
  }

  get(name: string): ScheduleRecord {
    return this.schedules.get(name);
  }

  async close(): Promise<void> {
    await this.schedules.stop();
    await this.bench.close();
  }
}

function instantOf({ parameters }: Job): string {
  const { scheduledAtMs } = parameters as { scheduledAtMs: number | null };
  return scheduledAtMs === null ? 'by hand' : new Date(scheduledAtMs).toISOString();
}
