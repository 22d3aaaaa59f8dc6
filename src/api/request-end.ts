/**
 * When a request is over before it was answered: its client is gone, or the service stops.
 */
import type { FastifyRequest } from 'fastify';
import { StorageError } from '../base/errors.ts';
import type { ApiContext } from './context.ts';

export interface RequestEnd {
  /** Its reason is a StorageError. */
  readonly signal: AbortSignal;
  /** Ends it for another reason. */
  end(reason: StorageError): void;
  /** The request was answered. */
  release(): void;
}

/** Watches a data request, until it is released. */
export function requestEnd(
  { cutting }: Pick<ApiContext, 'cutting'>,
  { raw: { socket } }: FastifyRequest,
): RequestEnd {
  const controller = new AbortController();
  const end = (reason: StorageError): void => {
    controller.abort(reason);
  };
  const onClose = (): void => {
    end(new StorageError('BODY_TRUNCATED', 'the client closed the connection'));
  };
  const onStop = (): void => {
    end(new StorageError('SHUTTING_DOWN', 'the service is shutting down'));
  };
  socket.once('close', onClose);
  cutting.addEventListener('abort', onStop);
  if (cutting.aborted) onStop();
  return {
    signal: controller.signal,
    end,
    release: () => {
      socket.off('close', onClose);
      cutting.removeEventListener('abort', onStop);
    },
  };
}
