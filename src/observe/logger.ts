import { pino, type DestinationStream, type Logger } from 'pino'

export type { Logger }

/** One JSON line per thing that happened. Keys, tokens and authorization headers never reach a line. */
export function createLogger(
  settings: { level: string; replica: string; version: string },
  destination?: DestinationStream,
): Logger {
  return pino(
    {
      level: settings.level,
      base: { replica: settings.replica, version: settings.version },
      redact: {
        paths: [
          'key',
          'token',
          'authorization',
          '*.key',
          '*.token',
          '*.authorization',
          '*.headers.authorization',
          '*.password',
        ],
        censor: '[redacted]',
      },
    },
    destination ?? pino.destination({ fd: 1, sync: false }),
  )
}
