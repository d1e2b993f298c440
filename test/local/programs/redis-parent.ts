// Starts the embedded Redis in the folder it is given, says where it is, and stays.
import { startEmbeddedRedis } from '../../../src/local/embedded-redis.js'

const dataDir = process.argv[2]!
const { url, pid } = await startEmbeddedRedis({ dataDir, cacheDir: dataDir, log: console.log, allow: ['path'] })
console.log(JSON.stringify({ url, pid }))
