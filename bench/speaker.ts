import { setImmediate as nextTick, setTimeout as sleep } from 'node:timers/promises'
import { MAX_EVENTS, micros, textOf, type Load, type Run } from './load.js'
import { answerOrders } from './orders.js'

/** What a rig's agent process can do. */
export interface Voice {
  /** Resolves when every session of the run can be spoken in. */
  open(run: Run): Promise<void>
  say(session: number, text: string): void
  close(): Promise<void>
}

/** Lets a voice speak as the parent orders: `open`, `speak` (answers with the number of events), `close`. */
export function speaker(voice: Voice): void {
  let load: Load
  let arrived = 0
  answerOrders({
    async open(run: Run) {
      load = run.load
      arrived = 0
      await voice.open(run)
    },
    arrived: (events: number) => void (arrived = events),
    speak: () => (load.ratePerSecond === null ? flatOut() : paced(load.ratePerSecond)),
    close: () => voice.close(),
  })

  /** Says event k at its time, and late ones at once. The sessions take turns. */
  async function paced(ratePerSecond: number): Promise<number> {
    const total = Math.min(ratePerSecond * load.seconds, MAX_EVENTS)
    const startedAt = micros()
    let said = 0
    while (said < total) {
      const due = Math.min(((micros() - startedAt) / 1e6) * ratePerSecond, total)
      while (said < due) voice.say(said++ % load.sessions, textOf(micros()))
      await sleep(Math.max(1000 / ratePerSecond, 1))
    }
    return said
  }

  /** Says as much as is taken: what has not arrived at the viewers is never more than `inFlight`. */
  async function flatOut(): Promise<number> {
    const endAt = micros() + load.seconds * 1e6
    let said = 0
    while (micros() < endAt && said < MAX_EVENTS) {
      const room = Math.min(arrived + load.inFlight - said, load.sessions * load.burst)
      for (let i = 0; i < room; i++) voice.say(said++ % load.sessions, textOf(micros()))
      await (room > 0 ? nextTick() : sleep(1))
    }
    return said
  }
}
