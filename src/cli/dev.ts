import { ConfigError, readConfig } from '../config.js'
import { dev } from '../local/dev.js'
import { EXIT_CONFIG } from './exit-codes.js'

/** `throughline dev`: the environment's PORT, OPS_PORT and REDIS_URL, if set, hold here too. Gives the exit code. */
export async function devCommand(options: { replicas: number; agent: boolean; mainPath: string }): Promise<number> {
  try {
    const { http } = readConfig()
    return await dev({
      replicas: options.replicas,
      port: http.port,
      opsPort: http.opsPort,
      redisUrl: process.env['REDIS_URL'],
      withAgent: options.agent,
      mainPath: options.mainPath,
    })
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err
    console.error(err.message)
    return EXIT_CONFIG
  }
}
