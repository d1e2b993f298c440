import { RequestError, type MessageTooLargeError } from '@agentclientprotocol/sdk'

/*
 * What goes wrong with an agent: what its own words mean, and the words for those who run it or read its answers.
 */

/** The error's own message, and its data, which often says more. */
export function messageOf(err: unknown): string {
  const { data } = Object(err) as { data?: unknown }
  const message = err instanceof Error ? err.message : String(err)
  return data === undefined ? message : `${message}: ${JSON.stringify(data)}`.slice(0, 4000)
}

/** As agents say it: OpenCode, Codex, Claude Code, Gemini CLI and others, each in other words. */
const ABSENT =
  /not found|no [\w ]{0,30}found|no such|does not exist|doesn't exist|expired|unknown (session|conversation|thread)|invalid session/i
const SESSION = /session|conversation|thread/i
const AUTH_REQUIRED = -32000

/** Whether an agent says that it does not have the session; any other trouble may pass, and other things are not found too. */
export function isGone(err: unknown, sessionId: string): boolean {
  if (!(err instanceof RequestError) || err.code === AUTH_REQUIRED) return false
  const words = messageOf(err)
  const absent = err.code === -32002 || ABSENT.test(words)
  return absent && (words.includes(sessionId) || SESSION.test(words))
}

/** What an error of the agent means to the reader of a turn. `methods`: its ways to log in. */
export function explain(err: unknown, methods: string[]): { code: string; message: string } {
  if (err instanceof RequestError && err.code === AUTH_REQUIRED) {
    const how = methods.length > 0 ? ` (${methods.join(', ')})` : ''
    return {
      code: 'agent_auth_required',
      message: `The agent wants a login${how}: log in once by hand with its own command, as the user of the bridge.`,
    }
  }
  return { code: 'agent_error', message: messageOf(err) }
}

export const tooLarge = ({ maxMessageBytes }: MessageTooLargeError): string =>
  `it sent a message of more than ${maxMessageBytes / 1024 ** 2} MiB, which is not read`

export const muteFor = (ms: number): string =>
  `it did not answer initialize within ${ms / 1000} s. Does the command speak ACP on stdin and stdout? Many need an argument for that, such as \`acp\` or \`--acp\`; one that has to be fetched first needs a longer --start-timeout`

/** What an agent is told that asks for what `initialize` said is off. */
export function whyOff(method: string): string {
  const [family] = method.split('/')
  return family === 'fs' || family === 'terminal'
    ? `, as initialize said: the bridge runs without --allow-${family}`
    : ''
}
