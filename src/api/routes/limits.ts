/** /v1/disks/{disk}/limits */
import { entityTag } from '../conditions.ts';
import type { ApiContext, ApiInstance } from '../context.ts';
import { json, matchHeader, operation, path } from '../operation.ts';
import { changeObject } from '../reply.ts';
import { LimitsSchema, SetLimitsSchema } from '../schemas/disk.ts';
import { refTo } from '../schemas/fields.ts';
import { limitsView } from '../views.ts';

const tag = 'disks';
const url = '/disks/:disk/limits';
const params = path('disk', 'Name or id of the disk.');

/** The ETag is the disk's: limits are a part of what a client sets of it. */
export function limitRoutes(app: ApiInstance, context: ApiContext): void {
  const { services } = context;
  app.get(url, {
    schema: operation(
      {
        operationId: 'getDiskLimits',
        tag,
        summary: 'Show the limits of a disk',
        ok: { 200: json(LimitsSchema, 'The limits.') },
      },
      { params },
    ),
    handler: async (request, reply) => {
      const disk = services.disks.get(request.params.disk);
      reply.header('etag', entityTag(disk));
      return limitsView(disk);
    },
  });
  app.put(url, {
    schema: operation(
      {
        operationId: 'setDiskLimits',
        tag,
        summary: 'Set all limits of a disk',
        description:
          'They hold at once, also for requests in progress. A quota below what is mapped ' +
          'refuses only what would map more.',
        ok: { 200: json(LimitsSchema, 'The limits as they are now.') },
      },
      { params, body: refTo(SetLimitsSchema) },
      matchHeader,
    ),
    handler: async (request, reply) => {
      const { maxBytesPerSecond = null, quotaBytes = null } = request.body;
      const get = () => services.disks.get(request.params.disk);
      const disk = await changeObject(context, request, get, ({ id }) =>
        services.disks.update(id, { maxBytesPerSecond, quotaBytes }),
      );
      reply.header('etag', entityTag(disk));
      return limitsView(disk);
    },
  });
}
