/**
 * Reads a folder of corpora: `<domain>/{train,val,test}.jsonl.gz` or `.jsonl`, one line `{"text": ...}` for each
 * document. Knows nothing about tokens and sources.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { hasErrno, InputError } from '../../src/lib/errors.ts'

export const SPLITS = ['train', 'val', 'test'] as const
export type Split = (typeof SPLITS)[number]

/** The domain of the public model, which every folder of corpora has. */
const PUBLIC_DOMAIN = 'public'
const ENDINGS = ['.jsonl.gz', '.jsonl']

/**
 * The domains in `dir`: `public` first, then the others by name. Ignores folders without any split.
 * @throws InputError `not-found` if the folder, its public domain or a split of a domain is missing.
 */
export async function domainsOf(dir: string): Promise<string[]> {
  const found: string[] = []
  for (const name of await directoriesIn(dir)) {
    const paths = await Promise.all(SPLITS.map((split) => splitPath(dir, name, split)))
    if (paths.every((path) => path === undefined)) continue
    const missing = SPLITS.find((_, index) => paths[index] === undefined)
    if (missing !== undefined) throw splitMissing(dir, name, missing)
    found.push(name)
  }
  if (!found.includes(PUBLIC_DOMAIN)) {
    throw new InputError(
      'not-found',
      `${dir} has no domain "${PUBLIC_DOMAIN}" (found: ${found.join(', ') || 'none'}); expected ` +
        `${join(dir, PUBLIC_DOMAIN, 'train.jsonl.gz')} and beside it val and test`,
    )
  }
  return [PUBLIC_DOMAIN, ...found.filter((name) => name !== PUBLIC_DOMAIN)]
}

/**
 * The texts of one split, in the order of the file.
 * @throws InputError `not-found` for a missing folder, domain or split; `not-text`, with file and line, for a damaged
 * archive or a line that is not a JSON object with a string `text`; `empty` for a split without documents.
 */
export async function readSplit(dir: string, domain: string, split: Split): Promise<string[]> {
  const domains = await directoriesIn(dir)
  if (!domains.includes(domain)) {
    throw new InputError(
      'not-found',
      `${dir} has no domain "${domain}" (folders: ${domains.join(', ') || 'none'})`,
    )
  }
  const path = await splitPath(dir, domain, split)
  if (path === undefined) throw splitMissing(dir, domain, split)
  const texts: string[] = []
  let number = 0
  for (const line of linesOf(await bytesOf(path))) {
    number++
    if (line.trim() !== '') texts.push(textOf(line, `${path} line ${number}`))
  }
  if (texts.length === 0) throw new InputError('empty', `${path} holds no document`)
  return texts
}

async function directoriesIn(dir: string): Promise<string[]> {
  try {
    const entries = await readdir(dir, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map((entry) => entry.name)
      .sort()
  } catch (cause) {
    if (!hasErrno(cause, 'ENOENT', 'ENOTDIR')) throw cause
    throw new InputError(
      'not-found',
      `${dir} is not a folder; expected one with <domain>/{train,val,test}.jsonl.gz, as ` +
        '`npx tsx scripts/corpora/build.ts OUT_DIR` writes it',
      {},
      cause,
    )
  }
}

async function splitPath(dir: string, domain: string, split: Split): Promise<string | undefined> {
  const names = await readdir(join(dir, domain)).catch((cause: unknown): string[] => {
    if (hasErrno(cause, 'ENOENT', 'ENOTDIR')) return []
    throw cause
  })
  const name = ENDINGS.map((ending) => split + ending).find((candidate) => names.includes(candidate))
  return name === undefined ? undefined : join(dir, domain, name)
}

function splitMissing(dir: string, domain: string, split: Split): InputError {
  return new InputError(
    'not-found',
    `${join(dir, domain)} has no ${ENDINGS.map((ending) => split + ending).join(' and no ')}; every domain needs ${SPLITS.join(', ')}`,
  )
}

async function bytesOf(path: string): Promise<Buffer> {
  const bytes = await readFile(path)
  if (!path.endsWith('.gz')) return bytes
  try {
    return await promisify(gunzip)(bytes)
  } catch (cause) {
    throw new InputError(
      'not-text',
      `${path} is not a complete gzip archive; build or copy it again`,
      {},
      cause,
    )
  }
}

/** Splits at \n only, since text may contain other line separators, which JSON does not escape. */
function* linesOf(bytes: Buffer): Generator<string> {
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, start)
    const end = newline < 0 ? bytes.length : newline
    yield bytes.toString('utf8', start, end)
    start = end + 1
  }
}

function textOf(line: string, title: string): string {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (cause) {
    throw new InputError('not-text', `${title}: expected a JSON object {"text": ...}`, {}, cause)
  }
  const text = (value as { text?: unknown } | null)?.text
  if (typeof text !== 'string') {
    throw new InputError('not-text', `${title}: expected a field "text" that holds a string`)
  }
  return text
}
