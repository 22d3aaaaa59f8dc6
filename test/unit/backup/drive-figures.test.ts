/** Figures of drives: totals of jobs become totals of targets. */
import { describe, expect, it } from 'vitest';
import { DriveFigures } from '../../../src/backup/drive-figures.ts';

const flow = { bufferBytes: 16, bufferedBytes: 4, writtenBytes: 100, busyMs: 9 };

describe('the figures of a drive', () => {
  it('add up over jobs; the buffer is that of the job that has the drive', () => {
    const figures = new DriveFigures();
    const first = figures.teller('a');
    first.told({ ...flow, stalls: 1, stalledMs: 20 });
    first.told({ ...flow, writtenBytes: 250, stalls: 3, stalledMs: 50 });
    expect(figures.of('a')).toMatchObject({ bufferedBytes: 4, writtenBytes: 250, stalls: 3 });
    first.ended();
    const second = figures.teller('a');
    second.told({ ...flow, stalls: 2, stalledMs: 7 });
    const totals = { writtenBytes: 350, stalls: 5, stalledMs: 57 };
    expect(figures.of('a')).toEqual({ bufferBytes: 16, bufferedBytes: 4, ...totals });
    second.ended();
    expect(figures.of('a')).toEqual({ bufferBytes: 0, bufferedBytes: 0, ...totals });
    expect(figures.of('b')).toMatchObject({ writtenBytes: 0, stalls: 0 });
    figures.forget('a');
    expect(figures.of('a')).toMatchObject({ writtenBytes: 0, stalls: 0 });
  });
});
