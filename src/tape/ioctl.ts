/**
 * ioctl(2), which Node does not have, through the optional package koffi.
 *
 * A call runs on a thread of libuv's pool, so minutes of rewinding stop nothing else. Its errno is
 * kept by koffi and read at once when the call comes back.
 */
import type * as KoffiModule from 'koffi';
import { StorageError } from '../base/errors.ts';

/** @returns 0, or the number of the errno */
export type Ioctl = (descriptor: number, request: number, argument: Buffer) => Promise<number>;

type Koffi = typeof KoffiModule;

const architectures = ['x64', 'arm64', 'riscv64', 'loong64'];
let loaded: Promise<Ioctl> | undefined;

/**
 * Makes it once.
 *
 * @throws TARGET_UNAVAILABLE if koffi is not installed, or this is not 64-bit Linux
 */
export function loadIoctl(): Promise<Ioctl> {
  loaded ??= makeIoctl(() => import('koffi'));
  return loaded;
}

/** @param importKoffi which fails if the package is not installed */
export async function makeIoctl(importKoffi: () => Promise<Koffi>): Promise<Ioctl> {
  if (process.platform !== 'linux' || !architectures.includes(process.arch)) {
    const { platform, arch } = process;
    throw new StorageError('TARGET_UNAVAILABLE', `no tape drives on ${platform} ${arch}`, {
      platform,
      arch,
    });
  }
  let koffi: Koffi;
  try {
    koffi = await importKoffi();
  } catch (error) {
    throw new StorageError(
      'TARGET_UNAVAILABLE',
      'tape drives need the optional package koffi: npm install koffi',
      { package: 'koffi' },
      error,
    );
  }
  const ioctl = koffi.load(null).func('int ioctl(int descriptor, unsigned long request, void *a)');
  return (descriptor, request, argument) =>
    new Promise((resolve, reject) => {
      ioctl.async(descriptor, request, argument, (error: unknown, result: unknown) => {
        const errno = koffi.errno();
        if (error instanceof Error) reject(error);
        else resolve(result === 0 ? 0 : errno);
      });
    });
}
