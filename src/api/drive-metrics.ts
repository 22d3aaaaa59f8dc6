/**
 * What `/metrics` shows of the drives of targets on tape; read when asked.
 */
import { Counter, Gauge } from 'prom-client';
import type { Registry } from 'prom-client';
import type { Services } from './services.ts';

/** How the drive of a target on tape keeps up: totals since the daemon began. */
export interface DriveView {
  /** Name of the target. */
  readonly target: string;
  /** Memory of the job that writes now, and how much of it is filled; 0 if none does. */
  readonly bufferBytes: number;
  readonly bufferedBytes: number;
  readonly writtenBytes: number;
  /** How often the drive had to wait for the source, and how long. */
  readonly stalls: number;
  readonly stalledMs: number;
  readonly waitsForMedium: boolean;
}

interface Figure {
  readonly name: string;
  readonly help: string;
  readonly of: (drive: DriveView) => number;
}

const gauges: readonly Figure[] = [
  {
    name: 'spindle_tape_buffer_bytes',
    help: 'Memory between the source and the drive, of the job that writes now.',
    of: ({ bufferBytes }) => bufferBytes,
  },
  {
    name: 'spindle_tape_buffered_bytes',
    help: 'How much of it is filled.',
    of: ({ bufferedBytes }) => bufferedBytes,
  },
  {
    name: 'spindle_tape_waiting_for_medium',
    help: '1 while a job waits for a cartridge in the drive.',
    of: ({ waitsForMedium }) => (waitsForMedium ? 1 : 0),
  },
];

const counters: readonly Figure[] = [
  {
    name: 'spindle_tape_written_bytes_total',
    help: 'Bytes of images that the drive has taken.',
    of: ({ writtenBytes }) => writtenBytes,
  },
  {
    name: 'spindle_tape_stalls_total',
    help: 'How often the drive ran out of data and had to wait for the source.',
    of: ({ stalls }) => stalls,
  },
  {
    name: 'spindle_tape_stalled_seconds_total',
    help: 'How long it then waited.',
    of: ({ stalledMs }) => stalledMs / 1000,
  },
];

const labelNames = ['target'] as const;

/** Adds them to the registry. They have no values while the services are not ready. */
export function showDrives(registry: Registry, services: Services): void {
  const registers = [registry];
  const drives = (): readonly DriveView[] => {
    return services.state() === 'ready' ? services.targets.drives() : [];
  };
  for (const { name, help, of } of gauges) {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const drive of drives()) this.set({ target: drive.target }, of(drive));
      },
    });
  }
  for (const { name, help, of } of counters) {
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const drive of drives()) this.inc({ target: drive.target }, of(drive));
      },
    });
  }
}
