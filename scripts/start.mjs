/**
 * `npm start`: builds if sources are newer than dist/, then becomes the daemon.
 *
 * The daemon runs in this very process, so signals and the exit code need no passing on. This file
 * must parse on any Node, to refuse an old one clearly: better-sqlite3 crashes below 22.14.
 */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major < 22 || (major === 22 && minor < 14)) {
  console.error(
    `spindle: Node ${process.versions.node} is too old, 22.14 or newer is needed. ` +
      'Start it with `npm start`: after `npm ci` on Linux x64 that uses the Node of the lock file.',
  );
  process.exitCode = 1;
} else {
  await start();
}

/**
 * npm passes SIGTERM and SIGINT on, but cannot when it is killed or hung up: then nobody would be
 * left who could stop the daemon, and it would keep the store. So it stops as if asked to.
 */
function stopWithParent() {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, 100);
  watch.unref();
}

async function start() {
  const { build, isStale } = await import('./build.mjs');
  const status = isStale() ? build(false) : 0;
  if (status !== 0) {
    process.exitCode = status;
    return;
  }
  if (process.env.npm_lifecycle_event !== undefined) stopWithParent();
  await import('../dist/main.js');
}
