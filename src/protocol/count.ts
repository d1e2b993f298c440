/** Where somebody stands in a window of what is limited. Times in ms. */
export interface Count {
  limit: number
  windowMs: number
  /** How many more there may be until `resetMs` from now. */
  remaining: number
  resetMs: number
  /** This one was too many. */
  exceeded: boolean
}
