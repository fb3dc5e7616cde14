/** Text files of an unpacked package, in order of name. Knows no format. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { gunzipSync } from 'node:zlib'

/** Paths below `root` that match, relative to it; links are not followed. */
export function* filesBelow(root: string, pattern: RegExp, under = root): Generator<string> {
  const entries = readdirSync(under, { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(under, entry.name)
    if (entry.isDirectory()) yield* filesBelow(root, pattern, path)
    else if (entry.isFile() && pattern.test(path)) yield relative(root, path)
  }
}

/** UTF-8, or Latin-1 where it is not valid UTF-8; gunzipped when named .gz. */
export function readText(path: string): string {
  const bytes = path.endsWith('.gz') ? gunzipSync(readFileSync(path)) : readFileSync(path)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return bytes.toString('latin1')
  }
}
