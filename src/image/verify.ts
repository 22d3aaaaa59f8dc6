/**
 * Proves an image, or says exactly what of the disk it can no longer give.
 *
 * How: one pass that skips nothing and stops at no damage; every problem and lost range is listed.
 *
 * Invariants:
 *  1. `ok` means that every byte of the image was read and proven.
 *  2. Lists are bounded, whatever the image claims.
 */
import { isStorageError } from '../base/errors.ts';
import { addRange } from './damage.ts';
import type { ImageProblem, LostRange } from './damage.ts';
import type { ImageBytes } from './image-bytes.ts';
import { ImageReader } from './reader.ts';

/** Problems kept; all are counted. */
const MAX_PROBLEMS = 1000;

export interface VerifyOptions {
  /** Image bytes proven so far and in all, after each segment. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

export interface VerifyResult {
  readonly ok: boolean;
  /** Good blocks, and their bytes. */
  readonly blocks: number;
  readonly bytes: number;
  /** Logical bytes lost, ascending, joined. */
  readonly damaged: readonly LostRange[];
  /** The first 1000 problems in the order of the image. */
  readonly problems: readonly ImageProblem[];
  readonly problemCount: number;
}

/**
 * Cost: reads the image once; memory two segments (16.8 MiB).
 *
 * @throws IMAGE_UNSUPPORTED (such an image cannot be judged), CANCELLED, errors of the source that
 *   are not of the medium. Damage of every kind, a wrecked header too, is a result.
 */
export async function verifyImage(
  bytes: ImageBytes,
  options: VerifyOptions = {},
): Promise<VerifyResult> {
  const found = new Findings();
  try {
    await walk(bytes, options, found);
  } catch (error) {
    const isDamage = ['IMAGE_INVALID', 'IMAGE_TRUNCATED', 'IMAGE_DAMAGED'].some(
      (code) => isStorageError(error) && error.code === code,
    );
    if (!isStorageError(error) || !isDamage) throw error;
    const { code, message } = error;
    found.add({ code, message, imageOffset: 0, length: bytes.sizeBytes, lost: [] });
  }
  return found.result();
}

async function walk(bytes: ImageBytes, options: VerifyOptions, found: Findings): Promise<void> {
  const reader = await ImageReader.open(bytes);
  const { layout } = reader;
  const segments = reader.segments({
    onDamage: 'skip',
    onProblem: (problem) => {
      found.add(problem, problem.imageOffset < layout.segmentsOffset ? 'zeros' : 'blocks');
    },
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  for await (const segment of segments) {
    found.goodBlocks(segment.sourceBlocks.length - segment.bad.size, layout.blockSizeBytes);
    const doneBytes = layout.segmentOffset(segment.segment) + layout.segmentBytes(segment.segment);
    options.onProgress?.(doneBytes, layout.imageBytes);
  }
  options.onProgress?.(layout.imageBytes, layout.imageBytes);
}

class Findings {
  /** Each ascends. */
  readonly #damaged: Record<'zeros' | 'blocks', LostRange[]> = { zeros: [], blocks: [] };
  readonly #problems: ImageProblem[] = [];
  #problemCount = 0;
  #blocks = 0;
  #bytes = 0;

  add(problem: ImageProblem, what: 'zeros' | 'blocks' = 'blocks'): void {
    this.#problemCount += 1;
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(problem);
    for (const range of problem.lost) addRange(this.#damaged[what], range);
  }

  goodBlocks(count: number, blockSizeBytes: number): void {
    this.#blocks += count;
    this.#bytes += count * blockSizeBytes;
  }

  result(): VerifyResult {
    const { zeros, blocks } = this.#damaged;
    const damaged: LostRange[] = [];
    const all = [...zeros, ...blocks].sort((a, b) => a.sourceOffset - b.sourceOffset);
    for (const range of zeros.length === 0 ? blocks : all) addRange(damaged, range);
    return {
      ok: this.#problemCount === 0,
      blocks: this.#blocks,
      bytes: this.#bytes,
      damaged,
      problems: this.#problems,
      problemCount: this.#problemCount,
    };
  }
}
