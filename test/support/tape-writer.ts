/**
 * A process that writes to a tape drive and then waits to be killed.
 *
 *     node test/support/tape-writer.ts virtual DIRECTORY RECORDS
 *     node test/support/tape-writer.ts st DEVICE RECORDS
 */
import { alignedBuffer } from '../../src/base/aligned-memory.ts';
import type { TapeDevice } from '../../src/tape/drive.ts';
import { stDevice } from '../../src/tape/st-drive.ts';
import { VirtualLibrary } from '../../src/tape/virtual-library.ts';

async function deviceOf(kind: string, path: string): Promise<TapeDevice> {
  if (kind === 'virtual') return (await VirtualLibrary.open(path)).device();
  if (kind === 'st') return stDevice(path);
  throw new Error(`no such kind of drive: ${kind}`);
}

const [kind = '', path = '', records = '0'] = process.argv.slice(2);
const device = await deviceOf(kind, path);
const drive = await device.open('write');
await drive.setRecordMode();
const record = alignedBuffer(64 * 1024);
for (let written = 0; written < Number(records); written += 1) await drive.write(record);
process.stdout.write('written\n');
setInterval(() => undefined, 60_000);
