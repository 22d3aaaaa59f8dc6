/**
 * Runs a util-linux tool on a descriptor of ours, for the system calls that Node does not offer
 * (flock, fallocate).
 *
 * The child gets our descriptor as its descriptor 3. Both then name the same *open file
 * description*, which is what `flock` locks: the lock stays after the child has ended, until our
 * last descriptor of it is closed, also by the death of this process.
 */
import { spawn } from 'node:child_process';

/** The number under which the tool sees the descriptor. */
export const INHERITED_DESCRIPTOR = 3;

export interface ToolResult {
  /** Exit status; -1 if a signal ended the tool. */
  readonly status: number;
  /** What the tool said on stderr, for people only. */
  readonly message: string;
}

/**
 * @param descriptor becomes descriptor 3 of the tool
 * @returns undefined if the tool is not installed
 */
export async function runTool(
  tool: string,
  args: readonly string[],
  descriptor: number,
): Promise<ToolResult | undefined> {
  const child = spawn(tool, args, { stdio: ['ignore', 'ignore', 'pipe', descriptor] });
  const said: Buffer[] = [];
  child.stderr?.on('data', (chunk: Buffer) => said.push(chunk));
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve(undefined);
      else reject(error);
    });
    child.once('close', (status) => {
      resolve({ status: status ?? -1, message: Buffer.concat(said).toString().trim() });
    });
  });
}
