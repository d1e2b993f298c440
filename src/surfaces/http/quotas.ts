import type { Count } from '../../protocol/count.js'

/** What of an owner is limited: all requests, and the messages among them. */
export type Paced = 'requests' | 'messages'

/** Counts one request, or one message, of an owner. Absent where there is no limit. Never fails. */
export type Rates = Partial<Record<Paced, (owner: string) => Promise<Count>>>

/** A stream's place among those that its owner may have open. */
export interface Place {
  /** Aborted when a newer stream has taken the place over. */
  taken: AbortSignal
  leave(): void
}

/** Gives a new stream of an owner a place; undefined when there is none. One that can resume may take another's. */
export type EnterPlace = (owner: string, resumable: boolean) => Promise<Place | undefined>
