import type { Behave, Prompted, Zed } from './agent.js'

/** Gives true when that was all: the prompt is not answered. */
type Behaviour = (zed: Zed, it: Prompted) => boolean | void | Promise<boolean | void>

const loadError = (zed: Zed, { known, run }: Prompted, error: string): true => {
  zed.gaveUp(run.request)
  zed.say('thread_load_error', { acp_thread_id: known, request_id: run.request, error }, run, 'end')
  return true
}
const replay = (zed: Zed, { thread, run }: Prompted): void => {
  for (const old of thread.told) zed.tell(thread, old, { ...run, inDoubt: new Set() })
}
const bounce = (zed: Zed, { thread, run }: Prompted): true => {
  zed.completed(thread, run.request, run)
  return true
}
/** Of which thread, by its id, a load has failed for good. */
const BROKEN = new WeakMap<Zed, Set<string>>()

/**
 * What agents have been seen to do with a prompt before, or in place of, an answer: by the word in the prompt, with the
 * failure case of the reference that it brings about.
 */
const BEHAVIOURS: Record<string, Behaviour> = {
  /** 3 */
  released: (zed, it) => {
    const broken = BROKEN.get(zed) ?? new Set()
    BROKEN.set(zed, broken)
    if (it.known === null || broken.has(it.known)) return
    broken.add(it.known)
    zed.threads.delete(it.known)
    return loadError(zed, it, 'Failed to load thread: entity released')
  },
  /** 3, of another class: the thread is kept */
  unloadable: (zed, it) => loadError(zed, it, 'Failed to load thread: receiver is gone'),
  /** 22 */
  wedged: (zed, it) => {
    zed.tellUser(it.thread, it.run.prompt, it.run.request)
    return loadError(zed, it, 'ede_diagnostic: stop_reason=null')
  },
  /** 21, 14: an end without an answer, the first time */
  bounce: (zed, it) => it.times < 2 && bounce(zed, it),
  /** 21: nothing but ends */
  hollow: (zed, it) => bounce(zed, it),
  /** 21, 23 */
  silent: (zed, it) => {
    zed.gaveUp(it.run.request)
    return true
  },
  /** 6: an end that names a turn which was never sent */
  early: (zed, { thread, run }) => zed.completed(thread, run.request.replace(/_\d+$/, '_9')),
  /** 7, 9 */
  stale: (zed, { thread, run, before }) => {
    for (const old of thread.told.slice(-2)) zed.tell(thread, old, { ...run, inDoubt: new Set() }, before)
    zed.completed(thread, before)
  },
  /** 8: an empty end under the old id; the answer is held back */
  withholds: (zed, { thread, run, before }) => {
    zed.gaveUp(run.request)
    zed.completed(thread, before)
    run.heldBack = true
    run.entries.push({ id: String(++thread.count), type: 'text', content: `${run.prompt} held back` })
    thread.count++
    zed.runs.push(run)
    return true
  },
  /** 8: what was held back comes with the next prompt, under the old id */
  yields: (zed, { thread, run, before }) => {
    const held = zed.runs.filter((it) => it.heldBack).at(-1)
    if (!held) return
    run.heldBack = true
    run.entries.push(...held.entries)
    zed.runs.push(run)
    for (const entry of held.entries) zed.tell(thread, entry, run, before)
    zed.completed(thread, run.request, run)
    thread.lastRequest = run.request
    return true
  },
  /** 10 */
  replay,
  /** 11: its wrapper was restarted */
  renumber: (_zed, { thread }) => void (thread.count = 0),
  /** 12 */
  twothreads: (zed, { thread, run }) => {
    zed.threads.delete(thread.id)
    const again = zed.makeThread(run.request)
    zed.threads.delete(again.id)
    thread.id = again.id
    zed.threads.set(thread.id, thread)
    zed.say('thread_created', { acp_thread_id: thread.id, request_id: run.request })
  },
  /** 18 */
  drafts: (zed, { thread }) => {
    for (const draft of ['D1', 'D2', 'D1'])
      zed.say('user_created_thread', { acp_thread_id: `${thread.id}-${draft}`, title: null })
  },
  /** 19 */
  second: (zed) => zed.connectBeside(),
  /** the process dies with the prompt */
  restart: (zed, { times }) => {
    if (times > 1) return
    zed.restart()
    return true
  },
  /** 22 */
  echo: (zed, { thread, run }) => zed.tellUser(thread, run.prompt, run.request),
  /** agents of 2025: neither threads nor entries */
  legacy: (zed, { run }) => {
    zed.runs.push(run)
    const answer = { id: 'response', type: 'text' as const, content: '' }
    run.entries.push(answer)
    for (let word = 0; word < 4; word++) {
      answer.content += `${run.prompt} ${word} `
      zed.say('chat_response_chunk', { request_id: run.request, chunk: `${run.prompt} ${word} ` }, run, `chunk${word}`)
    }
    zed.gaveUp(run.request)
    zed.say('chat_response_done', { request_id: run.request }, run, 'end')
    return true
  },
}

export const behave: Behave = async (zed, it) => {
  for (const word of it.run.prompt.split(' ')) if (await BEHAVIOURS[word]?.(zed, it)) return true
  return false
}
