// What `dev` needs of dist/main.js: `serve` answers on PORT with its name and on OPS_PORT that it is ready.
import { createServer } from 'node:http'

import { exitWithParent } from '../../../src/local/exit-with-parent.js'

exitWithParent()
const { PORT, OPS_PORT, REPLICA_ID, REDIS_URL, DRAIN_MS, FAKE_EXIT } = process.env
if (FAKE_EXIT) process.exit(Number(FAKE_EXIT))
if (process.argv[2] === 'serve') {
  createServer((_, res) =>
    res.end(JSON.stringify({ replica: REPLICA_ID, redis: REDIS_URL, drainMs: DRAIN_MS, pools: ['demo'] })),
  ).listen(Number(PORT), '127.0.0.1')
  createServer((_, res) => res.end('ready')).listen(Number(OPS_PORT), '127.0.0.1')
} else {
  console.log(process.argv.slice(2).join(' '))
  setInterval(() => {}, 60_000)
}
