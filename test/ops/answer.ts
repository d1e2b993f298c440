/** What an agent of the trial is asked: so many numbered pieces, each with the name of the message. */
export const ask = (name: string, pieces: number): string => `say ${pieces} ${name}`

/** The one right answer, in the pieces in which it is said. */
export function piecesOf(input: string): string[] {
  const [, pieces, name] = /^say (\d+) (\S+)$/.exec(input)!
  return Array.from({ length: Number(pieces) }, (_, i) => `${name}:${i} `)
}

export const answerTo = (input: string): string => piecesOf(input).join('')

/** Whether any piece in this text belongs to another message. */
export function hasForeign(text: string, input: string): boolean {
  const own = input.split(' ').at(-1)!
  return [...text.matchAll(/(\S+):\d+ /g)].some(([, name]) => name !== own)
}
