/** Texts to train on that are short, so that reading and tokenizing them takes no time. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { EXAMPLES, folder } from './folders.ts'

export type Domain = 'archive' | 'hospital' | 'university'

/** More than 64 documents of 128 tokens, the minimum for router statistics. */
const BYTES = 40_000

/** A file that holds the beginning of an example's text, whole lines, in its format. */
export async function shortText(domain: Domain): Promise<string> {
  const dir = join(EXAMPLES, domain, 'text')
  const names = (await readdir(dir)).sort()
  let text = ''
  for (const name of names) {
    text += await readFile(join(dir, name), 'utf8')
    if (text.length > BYTES) break
  }
  const path = join(await folder(), `${domain}${extname(names[0] ?? '')}`)
  await writeFile(path, text.slice(0, text.lastIndexOf('\n', BYTES) + 1))
  return path
}
