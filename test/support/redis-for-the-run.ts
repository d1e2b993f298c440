/** The one Redis of a test run, in a process of its own: says where it is, ends when its parent closes the channel. */
import { startEmbeddedRedis } from '../../src/local/embedded-redis.js'
import { userFolders } from '../../src/local/folders.js'
import { sentenceOf } from '../../src/local/set-up-error.js'

try {
  const redis = await startEmbeddedRedis({
    ...userFolders(),
    dataDir: null, // nothing is kept
    allow: ['path', 'private-copy'], // what is tested must be the real thing
    log: console.error,
  })
  process.once('disconnect', () => void redis.stop())
  process.send!({ url: redis.url })
} catch (err) {
  process.send!({ failed: sentenceOf(err) })
  process.disconnect()
}
