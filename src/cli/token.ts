import { tokens, type TokenUse } from '../auth/token.js'
import { ConfigError, readConfig } from '../config.js'
import { isSessionId } from '../protocol/ids.js'
import { EXIT_CONFIG } from './exit-codes.js'

/** `throughline token`: prints one token. Gives the exit code: 78 without a secret, 64 for what is no session id. */
export async function printToken(session: string, use: TokenUse, ttlMs: number): Promise<number> {
  if (!isSessionId(session)) {
    console.error(`"${session}" is not a session id (ses_… with 26 characters).`)
    return 64
  }
  try {
    const signer = tokens(readConfig().http.tokenSecrets)
    if (!signer) throw new ConfigError(['TOKEN_SECRET: is not set; give the one that the replicas have'])
    console.log(await signer.mint(use, session, ttlMs))
    return 0
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err
    console.error(err.message)
    return EXIT_CONFIG
  }
}
