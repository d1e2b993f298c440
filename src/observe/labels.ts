/** What stands for all values that a label has no room for. */
export const OTHER = 'other'

/**
 * The values of a label that comes from outside: those that are known, and the first `more` others. Whoever makes up names
 * (agents join pools, and say why they fail) must not make up series without end.
 */
export function boundedLabel(known: Iterable<string>, more: number): (value: string) => string {
  const values = new Set(known)
  const most = values.size + more
  return (value) => {
    if (values.has(value)) return value
    if (values.size >= most) return OTHER
    values.add(value)
    return value
  }
}
