/** How the agent behaves in one turn, and what must come of it. */
export interface Chapter {
  kind: string
  /** How the turn must end. */
  ends: RegExp
  /** The failure cases of the reference (section 5) that it plays. */
  cases: number[]
  /** Prompts that reach the agent by what it did itself; default 1. */
  prompts?: number
}

const chapter = (kind: string, ends: RegExp, cases: number[], prompts = 1): Chapter => ({ kind, ends, cases, prompts })

/**
 * Every session's turns in order; several are posted at once, by two kinds of clients (5, 6, 15, 16), and in between a
 * person types (14), also in the middle of an answer and opens another conversation (17). Replicas die or leave all the time (1, 2). Some agents never say
 * that they are ready (20), some end an old turn again after each reconnect (9). That a prompt has no role, and names the
 * session's own thread, is checked of every delivery (4, 17, 25); that it comes once, of every turn (5, 12).
 */
export const STORY: Chapter[] = [
  chapter('plain', /completed/, [1, 2, 13]),
  chapter('correction', /completed/, [13]),
  chapter('echo', /completed/, [22]),
  chapter('bounce', /completed/, [14, 21], 2),
  chapter('replay', /completed/, [10]),
  chapter('released', /completed/, [3], 2),
  chapter('plain again', /completed/, [6, 15, 16]),
  chapter('ready end', /completed/, [15]),
  chapter('echo and replay', /completed/, [10, 22]),
  chapter('norequest', /completed/, [2]),
  chapter('early end', /completed/, [6]),
  chapter('stale end', /completed/, [7, 9]),
  chapter('silent', /failed/, [21, 23], 5),
  chapter('drafts', /completed/, [18]),
  chapter('error', /failed/, []),
  chapter('unloadable', /failed/, [3, 4]),
  chapter('plain after it', /completed/, [4]),
  chapter('hollow', /failed/, [21], 5),
  chapter('wedged', /failed/, [22]),
  chapter('twothreads', /completed/, [12]),
  chapter('stalls', /completed|failed/, [23]),
  chapter('halting', /failed/, [23]),
  chapter('second connection', /completed/, [19]),
  chapter('longtool', /completed/, [23]),
  chapter('restart', /completed/, [4], 2),
  chapter('cancel', /cancelled|completed/, [24]),
  chapter('plain after cancel', /completed/, [24]),
  chapter('withholds', /failed/, [8], 5),
  chapter('yields', /completed/, [8]),
  chapter('renumber', /completed/, [11]),
  chapter('rubbish', /completed/, []),
  chapter('legacy', /completed/, []),
  chapter('interjected', /completed/, [14]),
  chapter('replay after all', /completed/, [10, 25]),
]

export const chapterOf = (input: string): Chapter | undefined => STORY.find(({ kind }) => input.startsWith(`${kind} <`))
