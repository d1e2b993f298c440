import { pino, type DestinationStream, type Logger } from 'pino'
import { scrubber } from './scrub.js'

export type { Logger }

/**
 * One JSON line per thing that happened. Keys, tokens, passwords and authorization headers never reach a line: not by the
 * name of a field, at any depth, not by their shape, and not those of the configuration (`secrets`) wherever they stand.
 */
export function createLogger(
  settings: { level: string; replica: string; version: string; secrets?: readonly string[] },
  destination?: DestinationStream,
): Logger {
  return pino(
    {
      level: settings.level,
      base: { replica: settings.replica, version: settings.version },
      serializers: { err: errorFields },
      hooks: { streamWrite: scrubber(settings.secrets ?? []) },
    },
    destination ?? pino.destination({ fd: 1, sync: false }),
  )
}

/**
 * What is told of an error. A choice of fields: those of ioredis carry the command with its arguments, which may be a
 * password or somebody's message.
 */
function errorFields(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown
  const { type, message, stack } = pino.stdSerializers.err(thrown) // with those of its causes
  const { code, syscall, address, port, command } = thrown as Error & Record<string, unknown>
  const name = (command as { name?: unknown } | undefined)?.name
  return { type, message, stack, code, syscall, address, port, ...(typeof name === 'string' && { command: name }) }
}
