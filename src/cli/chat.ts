import { isSessionId } from '../protocol/ids.js'
import { askOnce } from './chat-pipe.js'
import { converse } from './chat-terminal.js'
import { EXIT, type ChatOptions } from './chat-options.js'

/**
 * `throughline chat`: a conversation in a terminal, or one message from a pipe whose answer alone is printed. Gives the
 * exit code: 0; 1 a turn failed or was refused; 64 wrong use; 130 interrupted.
 */
export async function chat(options: Omit<ChatOptions, 'session'> & { session?: string }): Promise<number> {
  const { session, ...rest } = options
  if (session !== undefined && !isSessionId(session)) {
    console.error(`"${session}" is not a session id (ses_… with 26 characters).`)
    return EXIT.usage
  }
  const inTerminal = process.stdin.isTTY && process.stdout.isTTY
  return (inTerminal ? converse : askOnce)({ ...rest, session })
}
