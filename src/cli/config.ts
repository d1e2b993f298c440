import { describeConfig } from '../config.js'

/** The table of settings as Markdown: the values of this environment, secrets masked. */
export function configTable(env?: Record<string, string | undefined>): string {
  const rows = describeConfig(env).map((it) => [
    `\`${it.name}\``,
    it.value === '' ? '(empty)' : `\`${it.value}\``,
    it.default === '' ? '(empty)' : `\`${it.default}\``,
    it.unit,
    it.meaning.replaceAll('|', '\\|'),
  ])
  return [['variable', 'value', 'default', 'unit', 'meaning'], ['---', '---', '---', '---', '---'], ...rows]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n')
}
