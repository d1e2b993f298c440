/** What an operator can do to a deployment; each time is one entry of the audit trail. */
export type AuditAct =
  | 'key.created'
  | 'key.revoked'
  | 'session.deleted'
  | 'interaction.cancelled'
  | 'agent.disconnected'
  | 'agent.drained'
  | 'replica.drained'

/** One administrative act. Holds no secret. */
export interface AuditEntry {
  /** Its place in the trail, `<ms>-<n>`. */
  id: string
  /** When it was written, ms on Redis' clock. */
  at: number
  act: AuditAct
  /** The id of what it was done to. */
  target: string
  /** Who did it, as they said or as their system knows them. */
  by: string
  /** `done`, `asked` (it will be done by whoever has the target; nobody has confirmed it yet), or in a word why not. */
  outcome: string
  /** What else was said of it, such as the reason; '' for nothing. */
  detail: string
}
