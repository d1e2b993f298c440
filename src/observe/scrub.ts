const CENSORED = '[redacted]'

/** A known secret that is shorter would be found in words that are none. */
const LEAST = 6

/** Fields of a line of JSON whose value is nobody's business: `"authorization":"…"`, and lists of such. */
const FIELDS =
  /("(?:[\w-]*(?:password|passwd|secret|authorization|cookie|api[-_]?key|token)|key)":)("(?:[^"\\]|\\.)*"|\[[^\]]*\])/gi

/** What a credential looks like, whatever it is called. */
const SHAPES: [RegExp, string][] = [
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s"/\\]*@/gi, `$1***@`], // user and password of a URL
  [/\b(Bearer|Basic) +[\w.~+/=-]{6,}/gi, `$1 ${CENSORED}`],
  [/\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*/g, CENSORED], // JWT
  [/\bwhsec_[A-Za-z0-9+/=]+/g, CENSORED],
  [/\b(tl_[a-z0-9]{10}_)[a-z0-9]{32}\b/g, `$1${CENSORED}`], // a stored key: its id may be read
  [/([?&](?:token|key|api_key|access_token)=)[^&\s"\\]+/gi, `$1${CENSORED}`],
]

/** Takes out of a line of JSON what must not be read in it. It stays a line of JSON. */
export function scrubber(secrets: readonly string[]): (line: string) => string {
  const known = [...new Set(secrets.flatMap((it) => [it, JSON.stringify(it).slice(1, -1)]))]
    .filter((it) => it.length >= LEAST)
    .sort((a, b) => b.length - a.length) // the longer first: one may begin with another
  return (line) => {
    let text = line.replace(FIELDS, `$1"${CENSORED}"`)
    for (const [shape, instead] of SHAPES) text = text.replace(shape, instead)
    for (const secret of known) text = text.replaceAll(secret, CENSORED)
    return text
  }
}
