/**
 * Schedules as the interface sees them: names of today, and the runs that come.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import type { Backups } from '../backup/backups.ts';
import type { Job } from '../job/job.ts';
import type { Reference, ScheduleRecord } from '../schedule/records.ts';
import type { Schedules } from '../schedule/schedules.ts';

/** How many runs to come are shown. */
const NEXT_RUNS = 5;

export class ScheduleService implements api.Schedules {
  readonly #schedules: Schedules;
  readonly #backups: Backups;

  constructor(schedules: Schedules, backups: Backups) {
    this.#schedules = schedules;
    this.#backups = backups;
  }

  async create(
    request: api.CreateSchedule,
    effects?: Effects<api.Schedule>,
  ): Promise<api.ScheduleMade> {
    const made = await this.#schedules.create(
      request,
      effects && ((record) => effects(this.#view(record))),
    );
    return { schedule: this.#view(made.schedule), created: made.created };
  }

  get(ref: string): api.Schedule {
    return this.#view(this.#schedules.get(ref));
  }

  list(): readonly api.Schedule[] {
    return this.#schedules.list().map((record) => this.#view(record));
  }

  async update(ref: string, change: api.UpdateSchedule): Promise<api.Schedule> {
    return this.#view(await this.#schedules.update(ref, change));
  }

  async delete(ref: string): Promise<void> {
    await this.#schedules.delete(ref);
  }

  async run(ref: string, effects?: Effects<Job>): Promise<Job> {
    return this.#schedules.run(ref, effects);
  }

  /** The runs to come are worked out when somebody looks: each is a search in the calendar. */
  #view(record: ScheduleRecord): api.Schedule {
    const { id, name, labels, version, createdAtMs, progress } = record;
    const { disks, isGroup, target, ...settings } = record.settings;
    const { copies, targets } = this.#backups.options;
    const nameOf = (disk: Reference): string =>
      copies.options.disks.find(disk.id)?.name ?? disk.name;
    const schedules = this.#schedules;
    return {
      ...settings,
      ...{ id, name, labels, version, createdAtMs, isGroup },
      disks: disks.map((disk) => ({ id: disk.id, name: nameOf(disk) })),
      target: targets.find(target.id)?.name ?? target.name,
      targetId: target.id,
      get nextRunsMs() {
        return schedules.nextRuns(record, NEXT_RUNS);
      },
      queuedMs: progress.queuedMs,
      lastRun: progress.lastRun,
      lastSuccessAtMs: progress.lastSuccessAtMs,
      lastSkipped: progress.lastSkipped,
    };
  }
}
