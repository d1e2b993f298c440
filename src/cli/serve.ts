import { ConfigError, readConfig, secretsIn } from '../config.js'
import { RedisRequired, startGateway } from '../gateway.js'
import { createLogger } from '../observe/logger.js'
import { EXIT_CONFIG } from './exit-codes.js'
import { version } from './version.js'

/**
 * One production replica, configured by environment variables alone. Runs until `stop` aborts or an operator asks it
 * to leave, then drains; a second
 * abort through `kill` ends it at once. Gives the exit code.
 */
export async function serve(stop: AbortSignal, kill: AbortSignal): Promise<number> {
  let config
  try {
    config = readConfig()
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err
    console.error(err.message)
    return EXIT_CONFIG
  }
  const log = createLogger({
    level: config.logLevel,
    replica: config.replica,
    version,
    secrets: secretsIn(),
  })
  for (const trouble of ['uncaughtException', 'unhandledRejection'] as const)
    process.on(trouble, (err) => {
      log.fatal({ event: 'crash', trouble, err }, 'a bug; the replica ends, others go on')
      process.exit(1)
    })
  let gateway
  try {
    gateway = await startGateway(config, log, version)
  } catch (err) {
    const taken = (err as NodeJS.ErrnoException).code === 'EADDRINUSE'
    if (!taken && !(err instanceof RedisRequired)) throw err
    log.fatal(
      { event: 'not_started' },
      taken ? `${(err as Error).message}: choose another PORT or OPS_PORT` : (err as Error).message,
    )
    return EXIT_CONFIG
  }
  const leave = AbortSignal.any([stop, gateway.asked])
  if (!leave.aborted) await new Promise((resolve) => leave.addEventListener('abort', resolve, { once: true }))
  const killed = new Promise((resolve) => kill.addEventListener('abort', resolve, { once: true }))
  await (kill.aborted ? gateway.close() : Promise.race([gateway.drain(), killed])) // asked twice while it started
  return 0
}
