/** A value as a cell: nothing is `-`, and what could move the cursor or forge a line is shown as `?`. */
const cell = (value: unknown): string =>
  value === null || value === undefined || value === '' ? '-' : String(value).replaceAll(/[\p{Cc}\p{Cf}]/gu, '?')

/** Rows in columns as wide as they need to be; ids are never cut. The first row is the heading. */
export function table(rows: unknown[][]): string {
  const cells = rows.map((row) => row.map(cell))
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)))
  return cells
    .map((row) =>
      row
        .map((text, i) => text.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** A thing with all its fields, one a line, nested ones indented. Times (`…At`, `since`) as ISO 8601. */
export function fields(it: object, indent = ''): string {
  return Object.entries(it)
    .map(([name, value]: [string, unknown]) => {
      const label = `${indent}${name}:`
      if (Array.isArray(value)) {
        if (value.length === 0) return `${label} -`
        const items = value.map((item: unknown) =>
          typeof item === 'object' && item !== null
            ? fields(item, `${indent}    `).replace(/^(\s*)  /, '$1- ')
            : `${indent}  - ${cell(item)}`,
        )
        return `${label}\n${items.join('\n')}`
      }
      if (typeof value === 'object' && value !== null) {
        return Object.keys(value).length === 0 ? `${label} -` : `${label}\n${fields(value, `${indent}  `)}`
      }
      if (typeof value === 'number' && /(At|^since|^at)$/.test(name))
        return `${label} ${value === 0 ? '-' : new Date(value).toISOString()}`
      return `${label} ${cell(value)}`
    })
    .join('\n')
}
