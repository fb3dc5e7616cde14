/** Lists and reads text files of an unpacked package, in order of name. Knows nothing about formats. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { gunzipSync } from 'node:zlib'

/** Matching paths below `root`, relative to it. Does not follow links. */
export function* filesBelow(root: string, pattern: RegExp, under = root): Generator<string> {
  const entries = readdirSync(under, { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(under, entry.name)
    if (entry.isDirectory()) yield* filesBelow(root, pattern, path)
    else if (entry.isFile() && pattern.test(path)) yield relative(root, path)
  }
}

/** Decodes UTF-8, or Latin-1 if the bytes are not valid UTF-8. Decompresses a file whose name ends in .gz. */
export function readText(path: string): string {
  const bytes = path.endsWith('.gz') ? gunzipSync(readFileSync(path)) : readFileSync(path)
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return bytes.toString('latin1')
  }
}
