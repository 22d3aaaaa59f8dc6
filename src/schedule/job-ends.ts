/**
 * Waiting for the end of jobs, without asking again and again.
 */
import { deferred, type Deferred } from '../base/mutex.ts';
import { isEnd, type Job } from '../job/job.ts';

export class JobEnds {
  readonly #get: (id: string) => Promise<Job>;
  readonly #waiting = new Map<string, Deferred<Job>>();

  /** @param get a job as it is. @throws NOT_FOUND */
  constructor(get: (id: string) => Promise<Job>) {
    this.#get = get;
  }

  /** The job when it has ended. @throws NOT_FOUND */
  async endOf(id: string): Promise<Job> {
    const end = this.#waiting.get(id) ?? deferred<Job>();
    // first in the list, then looked at: an end in between is not missed
    this.#waiting.set(id, end);
    end.promise.catch(() => undefined);
    try {
      const job = await this.#get(id);
      if (!isEnd(job.state)) return await end.promise;
      this.ended(job);
      return job;
    } catch (error) {
      this.#waiting.delete(id);
      end.reject(error);
      throw error;
    }
  }

  /** For the runner's `onEnd`. */
  ended(job: Job): void {
    this.#waiting.get(job.id)?.resolve(job);
    this.#waiting.delete(job.id);
  }
}
