/**
 * How the drives of targets on tape keep up: totals over all jobs since the daemon began.
 *
 * Workers tell totals of their own sink; here they become those of the target.
 */
import type { DriveFlow } from '../target/target.ts';

export interface DriveTotals {
  /** Memory of the job that writes now, and how much of it is filled; 0 if none does. */
  readonly bufferBytes: number;
  readonly bufferedBytes: number;
  readonly writtenBytes: number;
  readonly stalls: number;
  readonly stalledMs: number;
}

/** Of a drive that nobody has used. */
export const noTotals: DriveTotals = {
  bufferBytes: 0,
  bufferedBytes: 0,
  writtenBytes: 0,
  stalls: 0,
  stalledMs: 0,
};

/** What one job tells. */
export interface FlowTeller {
  told(flow: DriveFlow): void;
  /** The job has the drive no more. */
  ended(): void;
}

export class DriveFigures {
  /** By id of the target. */
  readonly #totals = new Map<string, DriveTotals>();

  of(targetId: string): DriveTotals {
    return this.#totals.get(targetId) ?? noTotals;
  }

  forget(targetId: string): void {
    this.#totals.delete(targetId);
  }

  /** One job at a time has the drive of a target. */
  teller(targetId: string): FlowTeller {
    let before: Pick<DriveTotals, 'writtenBytes' | 'stalls' | 'stalledMs'> = noTotals;
    return {
      told: (flow) => {
        const { bufferBytes, bufferedBytes, writtenBytes, stalls, stalledMs } = flow;
        const total = this.of(targetId);
        this.#totals.set(targetId, {
          bufferBytes,
          bufferedBytes,
          writtenBytes: total.writtenBytes + writtenBytes - before.writtenBytes,
          stalls: total.stalls + stalls - before.stalls,
          stalledMs: total.stalledMs + stalledMs - before.stalledMs,
        });
        before = flow;
      },
      ended: () => {
        if (!this.#totals.has(targetId)) return;
        this.#totals.set(targetId, { ...this.of(targetId), bufferBytes: 0, bufferedBytes: 0 });
      },
    };
  }
}
