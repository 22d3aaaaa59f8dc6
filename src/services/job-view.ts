/**
 * A job as the interface sees it. Pure.
 */
import type * as api from '../api/work-services.ts';
import { isJsonObject } from '../job/job.ts';
import type { Job, JobProblem, JsonObject } from '../job/job.ts';

export function viewOfJob(job: Job): api.Job {
  const { result, problem } = job;
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    subject: texts(job.subject),
    doneBytes: job.doneBytes,
    totalBytes: job.totalBytes ?? null,
    bytesPerSecond: job.bytesPerSecond,
    etaSeconds: job.etaSeconds ?? null,
    maxBytesPerSecond: job.maxBytesPerSecond ?? null,
    stages: job.stages,
    attempts: job.attempts,
    createdAtMs: job.createdAtMs,
    startedAtMs: job.startedAtMs ?? null,
    endedAtMs: job.endedAtMs ?? null,
    problem: problem === undefined ? null : viewOfProblem(problem),
    waitingFor: job.waitingFor ?? null,
    result: result !== undefined && isJsonObject(result) ? result : null,
    log: job.log,
    labels: job.labels,
  };
}

/** Whether it is worth another try, the interface says by the code. */
function viewOfProblem(problem: JobProblem): NonNullable<api.Job['problem']> {
  const { code, detail, retryable: _, ...details } = problem;
  return { code, detail, details };
}

/** What of the subject is text; all of it is. */
function texts(subject: JsonObject): Record<string, string> {
  const entries = Object.entries(subject);
  return Object.fromEntries(entries.filter((entry) => typeof entry[1] === 'string').map(asText));
}

function asText([key, value]: readonly [string, unknown]): [string, string] {
  return [key, String(value)];
}
