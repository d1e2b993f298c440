/**
 * Something on this machine has to change before a start can work: its message is the whole story for the one who
 * typed the command, so it is printed without a stack, and the process ends with `exitCode` (78, EX_CONFIG).
 */
export class SetUpError extends Error {
  override readonly name = 'SetUpError'
  readonly exitCode = 78
}

/** The sentence of anything that was thrown. */
export function sentenceOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err)
}
